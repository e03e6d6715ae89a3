//! `symbolon serve`: config, roles, wait for a signal, drain.

use std::path::Path;
use std::sync::Arc;

use symbolon::clock::SystemClock;
use symbolon::config::Config;
use symbolon::process::Process;
use symbolon::{store, telemetry};

use super::{Failure, Outcome, StopSignal, drain, take_all_descriptors};

pub(super) async fn run(file: &Path) -> Outcome {
    let config = Config::read(file)?;
    telemetry::start(config.log);
    for advice in config.advice() {
        tracing::warn!("{advice}");
    }
    take_all_descriptors();
    let mut stop = StopSignal::listen()?;
    let clock = Arc::new(SystemClock::start());
    let start = async {
        let store = store::open(&config.store, clock.clone()).await?;
        Ok::<_, Failure>(Process::start(config, store, clock).await?)
    };
    let process = tokio::select! {
        started = start => started?,
        () = stop.received() => return Ok(()),
    };
    for (role, address) in [
        ("token service", process.token_service),
        ("gateway", process.gateway),
        ("admin", process.admin),
    ] {
        if let Some(address) = address {
            tracing::info!(role, %address, "listening for HTTP/1.1 without TLS");
        }
    }
    stop.received().await;
    tracing::info!("draining");
    drain(process, &mut stop).await;
    tracing::info!("stopped");
    Ok(())
}
