//! Row 1, continued: the server is killed again and again with its default for the disk.

use super::{Row, Scene, pass};
use crate::deployment::{Deployment, Plan};
use crate::judge::Measured;
use crate::load::{Load, Mix};
use crate::redis_server::RedisServer;

pub(crate) const ROW: Row = Row {
    number: "1b",
    name: "store-killed-everysec",
    fault: "store killed with `appendfsync everysec`",
    done: "All other rows run on servers with `appendfsync always`, as docs/stores.md asks. Here it is `everysec`, the \
           servers' default: the server is killed (SIGKILL) under load and started again on its data, ten times. The \
           process dies, the machine does not; what was written while an fsync took its time may be gone. What is lost \
           then is measured, and no fault.",
    run: |scene| Box::pin(run(scene)),
};

async fn run(scene: Scene) -> Measured {
    let server = RedisServer::start(scene.kind, &["--appendfsync", "everysec"]).await;
    let deployment = Deployment::start(&scene, Plan::over(&scene, server.port)).await;
    let mix = Mix {
        apart: 3,
        ..Mix::of(&scene)
    };
    let load = Load::start(&deployment, mix).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;
    let mut expect = deployment.recovering();
    (expect.may_lose, expect.may_be_late) = (true, true);
    history.begin("during", expect.clone());
    let kills = if scene.quick { 3 } else { 10 };
    for _ in 0..kills {
        server.kill();
        pass(scene.span(1, 1)).await;
        server.run().await;
        let back = history.begin("during", expect.clone());
        load.goes_on(back).await;
        pass(scene.span(2, 1)).await;
    }
    let mut after = deployment.calm();
    (after.may_lose, after.may_be_late) = (true, true);
    history.begin("after", after);
    pass(scene.span(10, 3)).await;
    let mut measured = load.stop(&deployment).await;
    measured.figure("kills", kills);
    measured
}
