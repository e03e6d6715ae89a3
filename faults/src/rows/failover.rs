//! Row 5: a failover that may lose writes, and a primary that does not know of it. Three nodes and a Sentinel.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::{Row, Scene, pass};
use crate::deployment::{Deployment, Plan, Role};
use crate::history::{Expect, Goes, Instant, now};
use crate::judge::{Measured, seconds};
use crate::load::{Load, Mix};
use crate::process::patiently;
use crate::redis_server::RedisServer;
use crate::relay::Relay;

pub(crate) const DEATH_ONE: Row = Row {
    number: "5a",
    name: "failover-majority",
    fault: "the primary dies; a majority acknowledges",
    done: "`replicas = { publish = 1, revoke = 1 }`. For two seconds the replicas get nothing of what the primary \
           writes, then it is killed (SIGKILL). The Sentinel promotes a replica, the old primary comes back as one. \
           Nothing that was acknowledged is lost.",
    run: |scene| {
        Box::pin(run(
            scene,
            Case {
                replicas: "publish = 1, revoke = 1",
                ..Case::of(Fault::Death)
            },
        ))
    },
};

pub(crate) const DEATH_NONE: Row = Row {
    number: "5b",
    name: "failover-none",
    fault: "the primary dies; nobody else acknowledges",
    done: "The same with `replicas = { publish = 0, revoke = 0 }`: what the settings promise is that a lost revocation \
           bites again once the token service has appended it again, and that a lost entry is a 401. Both are \
           measured, and no fault.",
    run: |scene| {
        Box::pin(run(
            scene,
            Case {
                may_lose: true,
                may_be_late: true,
                ..Case::of(Fault::Death)
            },
        ))
    },
};

pub(crate) const WAKES: Row = Row {
    number: "5c",
    name: "primary-wakes",
    fault: "the primary is stopped and wakes after the failover; a majority acknowledges",
    done: "`replicas = { publish = 1, revoke = 1 }`. The primary is stopped (SIGSTOP), a replica is promoted, and the \
           old primary goes on (SIGCONT) as if it were still one, until the Sentinel tells it.",
    run: |scene| {
        Box::pin(run(
            scene,
            Case {
                replicas: "publish = 1, revoke = 1",
                ..Case::of(Fault::Sleep)
            },
        ))
    },
};

pub(crate) const ISOLATED_READ: Row = Row {
    number: "5d",
    name: "isolated-gateway-read",
    fault: "a gateway beside an isolated primary; a majority acknowledges, `read = 1`",
    done: "`replicas = { publish = 1, revoke = 1, read = 1 }`. Proxies cut the primary off from its replicas and the \
           Sentinel, and the first gateway from the Sentinel: it stays with the old primary, while the token service \
           and the other gateway go to the new one. What is revoked there is refused by the first gateway after \
           `detect` and `tolerate` at the latest, since a primary that sees no replica is not believed. Until it \
           notices, a token that was issued there is a 401 at the first gateway: measured, and no fault.",
    run: |scene| {
        Box::pin(run(
            scene,
            Case {
                replicas: "publish = 1, revoke = 1, read = 1",
                may_lose: true,
                ..Case::of(Fault::IsolatedGateway)
            },
        ))
    },
};

pub(crate) const ISOLATED: Row = Row {
    number: "5e",
    name: "isolated-gateway",
    fault: "a gateway beside an isolated primary; a majority acknowledges",
    done: "The same without `read`: the first gateway believes the old primary for as long as it is isolated. How late \
           it refuses, and how many tokens it does not know, is measured, and no fault.",
    run: |scene| {
        Box::pin(run(
            scene,
            Case {
                replicas: "publish = 1, revoke = 1",
                may_lose: true,
                may_be_late: true,
                ..Case::of(Fault::IsolatedGateway)
            },
        ))
    },
};

pub(crate) const SPLIT_ALL: Row = Row {
    number: "5f",
    name: "split-brain-all",
    fault: "token service and gateway beside an isolated primary; all acknowledge",
    done: "`replicas = { publish = 1, revoke = 2 }`. The token service and the first gateway stay with the isolated \
           primary. Without its replicas nothing is issued and nothing revoked there: 503. Nothing that was \
           acknowledged is lost.",
    run: |scene| {
        Box::pin(run(
            scene,
            Case {
                replicas: "publish = 1, revoke = 2",
                ..Case::of(Fault::IsolatedBoth)
            },
        ))
    },
};

pub(crate) const SPLIT_NONE: Row = Row {
    number: "5g",
    name: "split-brain-none",
    fault: "token service and gateway beside an isolated primary; nobody else acknowledges",
    done: "The same with `replicas = { publish = 0, revoke = 0 }`: what is issued and revoked at the isolated primary \
           is unknown to the other gateway, until the token service has come over and appended its revocations again. \
           That is measured, and no fault.",
    run: |scene| {
        Box::pin(run(
            scene,
            Case {
                may_lose: true,
                may_be_late: true,
                ..Case::of(Fault::IsolatedBoth)
            },
        ))
    },
};

struct Case {
    fault: Fault,
    /// Of the setting of that name.
    replicas: &'static str,
    /// Whether these settings allow that a gateway does not know a token.
    may_lose: bool,
    /// Whether they allow that a revocation is late.
    may_be_late: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Death,
    Sleep,
    /// The first gateway stays with the primary.
    IsolatedGateway,
    /// The token service as well.
    IsolatedBoth,
}

/// From where the replicas and the Sentinel go to the primary.
const REPLICAS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3)),
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 4)),
];
const SENTINEL: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 5));
const NOBODY: &str = "publish = 0, revoke = 0";
/// Before the primary dies its replicas get nothing for so long.
const BEHIND: Duration = Duration::from_secs(2);

impl Case {
    fn of(fault: Fault) -> Self {
        Self {
            fault,
            replicas: NOBODY,
            may_lose: false,
            may_be_late: false,
        }
    }
}

/// A primary behind a proxy, its replicas, and who watches over them.
struct Nodes {
    primary: RedisServer,
    /// Where everybody reaches the primary.
    way: Relay,
    replicas: Vec<RedisServer>,
    sentinel: RedisServer,
    /// Where those reach the Sentinel who may be cut off from it.
    way_to_sentinel: Relay,
}

impl Nodes {
    async fn start(scene: &Scene) -> Self {
        let announce = ["--replica-announce-ip", "127.0.0.1"];
        let primary = RedisServer::start(scene.kind, &announce).await;
        let way = Relay::start(primary.port).await;
        let mut replicas = Vec::new();
        for from in REPLICAS {
            let from = from.to_string();
            let settings = [&announce[..], &["--bind-source-addr", &from]].concat();
            let replica = RedisServer::start(scene.kind, &settings).await;
            replica.replicate(way.port).await;
            replicas.push(replica);
        }
        let sentinel = RedisServer::watch(scene.kind, way.port, SENTINEL).await;
        patiently("the replicas are known", async || {
            let info: String = sentinel.ask(&["INFO", "sentinel"]).await;
            info.contains("status=ok") && info.contains("slaves=2")
        })
        .await;
        let way_to_sentinel = Relay::start(sentinel.port).await;
        Self {
            primary,
            way,
            replicas,
            sentinel,
            way_to_sentinel,
        }
    }

    /// Whom the Sentinel calls the primary.
    async fn told(&self) -> u16 {
        let told: Vec<String> = self
            .sentinel
            .ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"])
            .await;
        told[1].parse().unwrap()
    }

    /// Waits until another one is the primary.
    async fn failed_over(&self) -> Instant {
        patiently("a replica is promoted", async || {
            let told = self.told().await;
            let Some(new) = self.replicas.iter().find(|replica| replica.port == told) else {
                return false;
            };
            new.info("role").await == "master"
        })
        .await;
        now()
    }

    /// From now on the replicas get nothing. Until now they have got everything, both of them: which one a Sentinel
    /// prefers that asks them every ten seconds decides nothing.
    async fn leave_behind(&self, load: &Load) {
        let _quiet = load.pause_writes().await;
        let offset = |text: String| text.parse::<u64>().unwrap_or_default();
        let written = offset(self.primary.info("master_repl_offset").await);
        patiently("the replicas have all of it", async || {
            let mut all = true;
            for replica in &self.replicas {
                all &= offset(replica.info("slave_repl_offset").await) >= written;
            }
            all
        })
        .await;
        self.way.change(|rules| rules.isolated = REPLICAS.into());
    }

    fn begin(&self, fault: Fault) {
        match fault {
            Fault::Death => {
                self.primary.kill();
                // What they did not get they do not get later.
                self.way.cut();
            }
            Fault::Sleep => self.primary.signal("STOP"),
            Fault::IsolatedGateway | Fault::IsolatedBoth => {
                self.way_to_sentinel.part(true);
                self.way
                    .change(|rules| rules.isolated = REPLICAS.into_iter().chain([SENTINEL]).collect());
            }
        }
    }

    async fn end(&self, fault: Fault) {
        match fault {
            Fault::Death => {
                self.way.change(|rules| rules.isolated = HashSet::new());
                self.primary.run().await;
            }
            Fault::Sleep => self.primary.signal("CONT"),
            Fault::IsolatedGateway | Fault::IsolatedBoth => {
                self.way.change(|rules| rules.isolated = HashSet::new());
                // Connections do not outlive a partition as long as this one.
                self.way.cut();
                self.way_to_sentinel.part(false);
            }
        }
    }
}

async fn run(scene: Scene, case: Case) -> Measured {
    let nodes = Nodes::start(&scene).await;
    let (direct, relayed, replicas) = (nodes.sentinel.port, nodes.way_to_sentinel.port, case.replicas);
    let fault = case.fault;
    let plan = Plan {
        store: Box::new(move |role| {
            let may_be_cut_off = match role {
                Role::TokenService => fault == Fault::IsolatedBoth,
                Role::Gateway(number) => number == 0,
            };
            let sentinel = if may_be_cut_off { relayed } else { direct };
            format!(
                "sentinel = {{ master = \"main\", nodes = [\"redis://127.0.0.1:{sentinel}\"] }}\n\
                 replicas = {{ {replicas} }}"
            )
        }),
        ..Plan::over(&scene, direct)
    };
    let deployment = Deployment::start(&scene, plan).await;
    let mix = Mix {
        apart: if fault == Fault::Death || case.replicas == NOBODY {
            3
        } else {
            0
        },
        ..Mix::of(&scene)
    };
    let load = Load::start(&deployment, mix).await;
    let history = &load.world.history;
    pass(scene.span(10, 3)).await;

    if fault == Fault::Death {
        nodes.leave_behind(&load).await;
        pass(BEHIND).await;
    }
    let began = history.begin("during", failing_over(&deployment, &case, Goes::On));
    history.begin_at(
        began + (deployment.detect + deployment.tolerate) / 2,
        "during",
        failing_over(&deployment, &case, Goes::Either),
    );
    nodes.begin(fault);
    let promoted = nodes.failed_over().await;
    if fault == Fault::IsolatedGateway {
        // The bound counts from when something was revoked there.
        patiently("a revocation at the new primary", async || {
            history
                .recovery(promoted, deployment.gateways.len())
                .revoke
                .is_some()
        })
        .await;
    }
    let end = match fault {
        Fault::Death | Fault::Sleep => scene.span(5, 2),
        Fault::IsolatedGateway | Fault::IsolatedBoth => {
            deployment.detect + deployment.tolerate + scene.span(8, 2)
        }
    };
    pass(end).await;
    let healed = history.begin("during", failing_over(&deployment, &case, Goes::Either));
    nodes.end(fault).await;
    let recovery = load.goes_on(healed).await;
    patiently("the old primary is a replica", async || {
        nodes.primary.info("role").await == "slave"
    })
    .await;
    // What the token service has appended again counts anew.
    pass(deployment.detect).await;
    let mut after = deployment.calm();
    // An entry that nobody has is lost for good. All else is over.
    after.may_lose = case.replicas == NOBODY;
    history.begin("after", after);
    pass(scene.span(10, 3)).await;

    let issued = history.recovery(promoted, deployment.gateways.len()).issue;
    let mut measured = load.stop(&deployment).await;
    measured.figure("until a replica was promoted", seconds(promoted - began));
    measured.figure(
        "from then until a token was issued",
        issued.map_or("never".into(), |issued| seconds(issued - promoted)),
    );
    measured.figure("fault for", seconds(healed - began));
    measured.recovery("the end of the fault", &recovery);
    measured
}

/// Nothing is written for a while, what is known goes on, and everything else does as it can.
fn failing_over(deployment: &Deployment, case: &Case, seen: Goes) -> Expect {
    let mut expect = deployment.recovering();
    for at_gateway in &mut expect.gateways {
        at_gateway.seen = seen;
    }
    (expect.may_lose, expect.may_be_late) = (case.may_lose, case.may_be_late);
    expect
}
