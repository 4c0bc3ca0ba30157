//! JSON-RPC 2.0 as it passes through: requests taken apart, answers put together, parameters and results untouched.
//!
//! Why it exists: a batch is split over nodes and put together again under the client's own ids. What it
//! guarantees: parameters, results, errors and the client's ids are passed on byte for byte.

use serde::Deserialize;
use serde_json::value::RawValue;

/// Text of a JSON-RPC error that is made here. Codes: JSON-RPC 2.0, section 5.1, and EIP-1474.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: i32,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(code: i32, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn parse() -> Self {
        Self::new(-32700, "the request is not JSON")
    }

    pub(crate) fn invalid(message: &str) -> Self {
        Self::new(-32600, message)
    }

    pub(crate) fn not_allowed(method: &str) -> Self {
        let method: String = method.chars().take(64).collect();
        Self::new(-32601, format!("the method {method} is not passed on; execution.allowed_methods lists what is"))
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(-32002, message)
    }

    /// The whole answer.
    pub(crate) fn answer(&self, id: Option<&RawValue>) -> String {
        let message = serde_json::Value::String(self.message.clone());
        let id = id.map_or("null", RawValue::get);
        format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{},"message":{message}}}}}"#, self.code)
    }
}

/// One call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    /// As the client wrote it; `None` for a notification, which is not answered.
    pub(crate) id: Option<Box<RawValue>>,
    pub(crate) method: String,
    pub(crate) params: Option<Box<RawValue>>,
}

/// What a client sent.
#[derive(Debug)]
pub(crate) enum Incoming {
    One(Result<Call, Fault>),
    Many(Vec<Result<Call, Fault>>),
}

#[derive(Deserialize)]
struct WireCall {
    jsonrpc: Option<String>,
    id: Option<Box<RawValue>>,
    method: String,
    params: Option<Box<RawValue>>,
}

impl Incoming {
    /// Takes a body or a message apart. `max_batch` bounds the calls of a batch.
    pub(crate) fn parse(body: &[u8], max_batch: usize) -> Result<Self, Fault> {
        let text = std::str::from_utf8(body).map_err(|_| Fault::parse())?.trim_start();
        if !text.starts_with('[') {
            let raw: Box<RawValue> = serde_json::from_str(text).map_err(|_| Fault::parse())?;
            return Ok(Self::One(call(&raw)));
        }
        let items: Vec<Box<RawValue>> = serde_json::from_str(text).map_err(|_| Fault::parse())?;
        if items.is_empty() {
            return Err(Fault::invalid("the batch is empty"));
        }
        if items.len() > max_batch {
            return Err(Fault::invalid(&format!("the batch holds more than {max_batch} calls; send them in parts")));
        }
        Ok(Self::Many(items.iter().map(|item| call(item)).collect()))
    }
}

fn call(raw: &RawValue) -> Result<Call, Fault> {
    let wire: WireCall =
        serde_json::from_str(raw.get()).map_err(|_| Fault::invalid("not a JSON-RPC call: it needs a method"))?;
    if wire.jsonrpc.as_deref().is_some_and(|version| version != "2.0") {
        return Err(Fault::invalid("only JSON-RPC 2.0 is spoken here"));
    }
    let plain = |id: &RawValue| !id.get().starts_with(['{', '[']);
    if wire.id.as_deref().is_some_and(|id| !plain(id)) {
        return Err(Fault::invalid("an id is a number, a text or null"));
    }
    if wire.params.as_deref().is_some_and(|params| !params.get().starts_with(['{', '['])) {
        return Err(Fault::invalid("params is a list or an object"));
    }
    Ok(Call { id: wire.id, method: wire.method, params: wire.params })
}

impl Call {
    /// A call of this program.
    pub(crate) fn own(method: &str) -> Self {
        Self { id: None, method: method.to_owned(), params: None }
    }

    /// The call for a node, under the id `id`.
    pub(crate) fn to_node(&self, id: usize) -> String {
        let method = serde_json::Value::String(self.method.clone());
        // Some nodes insist on params.
        let params = self.params.as_deref().map_or("[]", RawValue::get);
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":{method},"params":{params}}}"#)
    }

    /// The first parameter, if it is a text.
    pub(crate) fn first_text(&self) -> Option<String> {
        let items: Vec<&RawValue> = serde_json::from_str(self.params.as_deref()?.get()).ok()?;
        serde_json::from_str(items.first()?.get()).ok()
    }
}

/// What a node answered to one call: a result or an error, as it wrote them.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Result(Box<RawValue>),
    Error { code: i64, raw: Box<RawValue> },
}

#[derive(Deserialize)]
struct WireReply {
    #[serde(default)]
    id: Option<usize>,
    #[serde(default)]
    result: Option<Box<RawValue>>,
    #[serde(default)]
    error: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
struct WireError {
    #[serde(default)]
    code: i64,
}

impl WireReply {
    fn read(self) -> Option<Reply> {
        match (self.result, self.error.filter(|error| error.get() != "null")) {
            (_, Some(raw)) => {
                let WireError { code } = serde_json::from_str(raw.get()).ok()?;
                Some(Reply::Error { code, raw })
            }
            (Some(result), None) => Some(Reply::Result(result)),
            // A member that is there and null is lost by `Option`: a result of null is an answer.
            (None, None) => RawValue::from_string("null".to_owned()).ok().map(Reply::Result),
        }
    }
}

impl Reply {
    /// Reads a node's answer to calls sent under the ids from 0 on; `None` unless each has exactly one.
    pub(crate) fn read(body: &[u8], calls: usize) -> Option<Vec<Self>> {
        if calls == 1 && body.trim_ascii_start().starts_with(b"{") {
            let reply: WireReply = serde_json::from_slice(body).ok()?;
            return (reply.id == Some(0)).then(|| reply.read().map(|reply| vec![reply]))?;
        }
        let replies: Vec<WireReply> = serde_json::from_slice(body).ok()?;
        let mut places: Vec<Option<Self>> = vec![None; calls];
        for reply in replies {
            let place = places.get_mut(reply.id?)?;
            if place.is_some() {
                return None;
            }
            *place = Some(reply.read()?);
        }
        places.into_iter().collect()
    }

    /// The answer for the client, under its own id.
    pub(crate) fn answer(&self, id: &RawValue) -> String {
        let id = id.get();
        match self {
            Self::Result(result) => format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{}}}"#, result.get()),
            Self::Error { raw, .. } => format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{}}}"#, raw.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    //! Proves: bytes pass through, batches keep their order, and what is no answer is not taken for one.
    use super::*;

    fn one(text: &str) -> Result<Call, Fault> {
        match Incoming::parse(text.as_bytes(), 10).unwrap() {
            Incoming::One(call) => call,
            Incoming::Many(_) => panic!("a batch"),
        }
    }

    #[test]
    fn ids_and_parameters_stay_as_they_are() {
        let call = one(r#"{"jsonrpc":"2.0","id":1.50e1,"method":"eth_call","params":[ {"a" : 1.0} ]}"#).unwrap();
        assert_eq!(call.id.as_ref().unwrap().get(), "1.50e1");
        assert_eq!(call.to_node(3), r#"{"jsonrpc":"2.0","id":3,"method":"eth_call","params":[ {"a" : 1.0} ]}"#);
        let replies = Reply::read(br#"{"id":0,"jsonrpc":"2.0","result":{"x": 1.0}}"#, 1).unwrap();
        assert_eq!(replies[0].answer(&call.id.unwrap()), r#"{"jsonrpc":"2.0","id":1.50e1,"result":{"x": 1.0}}"#);
    }

    #[test]
    fn a_result_of_null_is_a_result() {
        let replies = Reply::read(br#"{"id":0,"result":null}"#, 1).unwrap();
        assert!(matches!(&replies[0], Reply::Result(raw) if raw.get() == "null"));
    }

    #[test]
    fn answers_are_put_in_the_order_of_the_calls() {
        let body = br#"[{"id":1,"result":"b"},{"id":0,"error":{"code":-32000,"message":"no"}}]"#;
        let replies = Reply::read(body, 2).unwrap();
        assert!(matches!(&replies[0], Reply::Error { code: -32000, .. }));
        assert!(matches!(&replies[1], Reply::Result(raw) if raw.get() == "\"b\""));
    }

    #[test]
    fn what_is_no_answer_is_refused() {
        for body in [
            &b"<html>"[..],
            br#"{"id":7,"result":1}"#,
            br#"{"result":1}"#,
            br#"[{"id":0,"result":1}]"#,
            br#"[{"id":0,"result":1},{"id":0,"result":1}]"#,
            br#"[{"id":0,"result":1},{"id":2,"result":1}]"#,
            b"",
        ] {
            assert!(Reply::read(body, 2).is_none(), "{}", String::from_utf8_lossy(body));
        }
        assert!(Reply::read(br#"{"id":1,"result":1}"#, 1).is_none());
    }

    #[test]
    fn mistakes_of_clients_have_the_codes_of_the_standard() {
        assert_eq!(Incoming::parse(b"{", 10).unwrap_err().code, -32700);
        assert_eq!(Incoming::parse(b"\xff", 10).unwrap_err().code, -32700);
        assert_eq!(Incoming::parse(b"[]", 10).unwrap_err().code, -32600);
        assert_eq!(Incoming::parse(b"[1,2,3]", 2).unwrap_err().code, -32600);
        for text in [
            "1",
            "{}",
            r#"{"id":1}"#,
            r#"{"jsonrpc":"1.0","id":1,"method":"a"}"#,
            r#"{"id":{},"method":"a"}"#,
            r#"{"id":1,"method":"a","params":3}"#,
        ] {
            assert_eq!(one(text).unwrap_err().code, -32600, "{text}");
        }
    }

    #[test]
    fn a_notification_has_no_id_and_null_is_one() {
        assert!(one(r#"{"method":"eth_call"}"#).unwrap().id.is_none());
        assert!(one(r#"{"id":null,"method":"eth_call"}"#).unwrap().id.is_none());
    }

    #[test]
    fn the_first_parameter_as_text() {
        assert_eq!(one(r#"{"id":1,"method":"m","params":["0x1",2]}"#).unwrap().first_text().as_deref(), Some("0x1"));
        assert_eq!(one(r#"{"id":1,"method":"m","params":[1]}"#).unwrap().first_text(), None);
        assert_eq!(one(r#"{"id":1,"method":"m"}"#).unwrap().first_text(), None);
    }
}
