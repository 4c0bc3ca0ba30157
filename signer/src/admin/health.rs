//! `grpc.health.v1.Health`: whether this process can do its work, for probes that speak gRPC.
//!
//! The empty name and `holdfast.signer` say the same: serving means that keys are loaded, protection is not frozen, and
//! the process is not about to stop.

use std::sync::Arc;
use std::time::Duration;

use holdfast_slashing_db::{Guard, GuardHealth};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::drain::Tasks;
use crate::loader::KeyLoader;

/// The name of the signer among services.
const SIGNER: &str = "holdfast.signer";
/// How soon a change is told.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

fn now(guard: &Guard, loader: &KeyLoader, tasks: &Tasks) -> ServingStatus {
    let serving = guard.health() == GuardHealth::Serving && !loader.is_loading() && !tasks.is_leaving();
    if serving { ServingStatus::Serving } else { ServingStatus::NotServing }
}

async fn tell(reporter: &HealthReporter, status: ServingStatus) {
    reporter.set_service_status("", status).await;
    reporter.set_service_status(SIGNER, status).await;
}

/// Tells changes until the process stops; the last word is that it does not serve.
pub(super) async fn watch(reporter: HealthReporter, guard: Guard, loader: Arc<KeyLoader>, tasks: Tasks) {
    let mut stopping = tasks.stopping();
    // What watchers hear first is true.
    let mut told = ServingStatus::NotServing;
    tell(&reporter, told).await;
    loop {
        let status = now(&guard, &loader, &tasks);
        if status != told {
            tell(&reporter, status).await;
            told = status;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = stopping.begun() => return tell(&reporter, ServingStatus::NotServing).await,
        }
    }
}
