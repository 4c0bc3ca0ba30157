//! What people brought: a request and approvals of it, in one file or in several.

use holdfast_approvals::{Approval, ApprovalError, Malformed, Request};

/// A request and what was signed for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Brought {
    /// What was asked for.
    pub(crate) request: Request,
    /// Who approved, not verified yet.
    pub(crate) approvals: Vec<Approval>,
}

/// Why files are no approvals.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BroughtError {
    /// A file that means to be a request and is none.
    #[error("{file} is malformed")]
    Request {
        /// Which file.
        file: String,
        /// Why.
        #[source]
        source: Malformed,
    },
    /// A file of something else.
    #[error("{file} is malformed")]
    Approval {
        /// Which file.
        file: String,
        /// Why.
        #[source]
        source: ApprovalError,
    },
    /// Only signatures.
    #[error("the request itself is missing: name its file, too, beside the files of those who approved")]
    NoRequest,
    /// Two acts at once.
    #[error("{file} is another request than the file before it; give the files of one request")]
    TwoRequests {
        /// Which file.
        file: String,
    },
}

impl Brought {
    /// Reads what [`Self::to_text`] wrote.
    ///
    /// # Errors
    /// [`Malformed`].
    pub(crate) fn from_text(text: &str) -> Result<Self, Malformed> {
        let (request, approvals) = Request::with_approvals(text)?;
        Ok(Self { request, approvals })
    }

    /// All of it as one text: the request, and the approvals behind it.
    pub(crate) fn to_text(&self) -> String {
        let approvals = self.approvals.iter().map(Approval::to_text);
        std::iter::once(self.request.to_text()).chain(approvals).collect()
    }

    /// Reads files, each with its name: requests with or without approvals behind them, and approvals alone.
    ///
    /// # Errors
    /// [`BroughtError`], which names the file.
    pub(crate) fn read(files: &[(String, String)]) -> Result<Self, BroughtError> {
        let mut request: Option<Request> = None;
        let mut approvals = Vec::new();
        for (file, text) in files {
            if Request::begins(text) {
                let (found, signed) = Request::with_approvals(text)
                    .map_err(|source| BroughtError::Request { file: file.clone(), source })?;
                if request.as_ref().is_some_and(|request| *request != found) {
                    return Err(BroughtError::TwoRequests { file: file.clone() });
                }
                request = Some(found);
                approvals.extend(signed);
            } else {
                let signed =
                    Approval::all_from(text).map_err(|source| BroughtError::Approval { file: file.clone(), source })?;
                approvals.extend(signed);
            }
        }
        Ok(Self { request: request.ok_or(BroughtError::NoRequest)?, approvals })
    }
}
