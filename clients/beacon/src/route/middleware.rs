//! Selections of a distributed validator: its middleware, and nobody else.
//!
//! Why it exists: partial selection proofs are put together by the middleware alone; a beacon node answers nonsense or
//! nothing. What it guarantees: such a request never reaches a beacon node.

use hyper::StatusCode;

use super::Switcher;
use super::judge::{Reading, judge, worst_case};
use super::request::{ClientAnswer, ClientRequest};
use super::table::Endpoint;

/// Selections of a few thousand validators.
const MAX_BYTES: usize = 4 * 1024 * 1024;

impl Switcher {
    pub(super) async fn ask_middleware(&self, endpoint: Endpoint, request: &ClientRequest) -> ClientAnswer {
        let Some(middleware) = &self.middleware else {
            let message = "no distributed-validator middleware is behind this switcher; set switcher.middleware, or point the validator client at the middleware";
            return ClientAnswer::error(StatusCode::NOT_IMPLEMENTED, message);
        };
        let class = endpoint.class();
        let deadline = self.pool.deadline(class);
        let called = middleware.call(request.to_upstream(class), deadline).await;
        let judged = match called {
            Ok(answer) => judge(answer, Reading::Whole(MAX_BYTES), deadline).await,
            Err(error) => {
                let message = format!("the distributed-validator middleware does not answer: {error}; try again");
                return ClientAnswer::error(StatusCode::SERVICE_UNAVAILABLE, message);
            }
        };
        match judged {
            Ok(good) => good.into_answer(),
            Err(bad) => worst_case(vec![(middleware.name().to_string(), bad)]),
        }
    }
}
