//! Accepting connections and seeing them to their end: the switcher's listener and the execution pool's do it alike.
//!
//! What it guarantees: never more connections than the bound are open, and those that wait are not accepted until there is
//! a place; a failed accept neither ends the listener nor keeps a processor busy; all ends when the tasks are stopped.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::door::{ByteStream, Door};
use crate::tasks::Tasks;

/// Pause after a failed accept, as when file descriptors run out.
const PAUSE: Duration = Duration::from_millis(50);

/// How a connection came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Through {
    /// As it is.
    Nothing,
    /// The door let it in.
    Door,
}

/// What is behind a listener.
pub(crate) trait Serve: Send + Sync + 'static {
    /// Serves a connection to its end; one that is idle ends with the tasks.
    fn connection(&self, stream: impl ByteStream, through: Through, tasks: &Tasks) -> impl Future<Output = ()> + Send;
}

/// Accepts at most so many connections at once, through the door if there is one, until the tasks are stopped.
pub(crate) async fn accept(
    listener: TcpListener,
    door: Option<Arc<dyn Door>>,
    server: Arc<impl Serve>,
    max_connections: usize,
    tasks: Tasks,
) {
    let places = Arc::new(Semaphore::new(max_connections.min(Semaphore::MAX_PERMITS)));
    let mut stopping = tasks.stopping();
    loop {
        let next = async {
            // The semaphore is never closed, so this always gives a place.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            biased;
            () = stopping.begun() => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (server, tasks_of_connection, door) = (Arc::clone(&server), tasks.clone(), door.clone());
                tasks.spawn(async move {
                    // Answers are one small packet, wanted now; without it they come a little later.
                    let _ = stream.set_nodelay(true);
                    match door {
                        None => server.connection(stream, Through::Nothing, &tasks_of_connection).await,
                        Some(door) => {
                            if let Some(stream) = door.open(stream, peer).await {
                                server.connection(stream, Through::Door, &tasks_of_connection).await;
                            }
                        }
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; raise the limit of open files if this persists");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Serves a connection to its end, and gives its result. When the tasks are stopped, `finish` tells it to end after what was
/// begun on it.
pub(crate) async fn see_out<C: Future>(connection: C, finish: impl FnOnce(Pin<&mut C>), tasks: &Tasks) -> C::Output {
    let mut connection = pin!(connection);
    let mut stopping = tasks.stopping();
    tokio::select! {
        result = connection.as_mut() => result,
        () = stopping.begun() => {
            finish(connection.as_mut());
            connection.await
        }
    }
}
