//! The few AWS calls the story itself makes, straight over HTTP: the lab watches with these, the product never does.

use serde_json::Value;

/// The account every emulator here pretends to be.
pub const ACCOUNT: &str = "000000000000";

/// Another account, whose certificates the control plane may ask for.
pub const OTHER_ACCOUNT: &str = "210987654321";
/// What its roles demand.
pub const EXTERNAL_ID: &str = "lab-orchard-7";

/// The Region of the lab.
pub const REGION: &str = "eu-west-1";

/// Why a call did not answer as hoped.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The endpoint could not be reached or its answer not read.
    #[error("calling {operation}")]
    Transport {
        /// `<service>.<Operation>`.
        operation: String,
        /// The cause.
        #[source]
        source: reqwest::Error,
    },
    /// The endpoint answered with an error.
    #[error("{operation} answered {status}: {body}")]
    Refused {
        /// `<service>.<Operation>`.
        operation: String,
        /// HTTP status.
        status: u16,
        /// The answer's beginning.
        body: String,
    },
}

/// One service's endpoint.
#[derive(Debug, Clone)]
pub struct Endpoint {
    http: reqwest::Client,
    base: String,
    service: &'static str,
}

impl Endpoint {
    /// An endpoint at `base` (`http://127.0.0.1:port`).
    pub fn new(service: &'static str, base: &str) -> Self {
        Self { http: reqwest::Client::new(), base: base.trim_end_matches('/').to_owned(), service }
    }

    /// A call of the JSON protocol; `target` is the `X-Amz-Target` header's value.
    pub async fn json(&self, target: &str, body: &Value) -> Result<Value, CallError> {
        let request = self
            .http
            .post(format!("{}/", self.base))
            .header("x-amz-target", target)
            .header("content-type", "application/x-amz-json-1.0")
            .body(body.to_string());
        self.send(target.rsplit('.').next().unwrap_or(target), request).await
    }

    /// A call of a REST protocol with JSON bodies.
    pub async fn post(&self, operation: &str, path: &str, body: &Value) -> Result<Value, CallError> {
        let request = self.http.post(format!("{}{path}", self.base)).body(body.to_string());
        self.send(operation, request.header("content-type", "application/json")).await
    }

    /// A change of a REST protocol with a JSON body.
    pub async fn put(&self, operation: &str, path: &str, body: &Value) -> Result<Value, CallError> {
        let request = self.http.put(format!("{}{path}", self.base)).body(body.to_string());
        self.send(operation, request.header("content-type", "application/json")).await
    }

    /// A call of the Query protocol; its answer, XML, is not read.
    pub async fn form(&self, action: &str, fields: &[(&str, &str)]) -> Result<(), CallError> {
        let all: Vec<(&str, &str)> = [("Action", action)].into_iter().chain(fields.iter().copied()).collect();
        self.send(action, self.http.post(format!("{}/", self.base)).form(&all)).await.map(|_| ())
    }

    /// An asynchronous invocation: accepted, not waited for.
    pub async fn post_event(&self, path: &str, body: &Value) -> Result<Value, CallError> {
        let request = self.http.post(format!("{}{path}", self.base)).body(body.to_string());
        self.send("Invoke", request.header("x-amz-invocation-type", "Event")).await
    }

    /// A read of a REST protocol.
    pub async fn get(&self, operation: &str, path: &str) -> Result<Value, CallError> {
        self.send(operation, self.http.get(format!("{}{path}", self.base))).await
    }

    /// A deletion of a REST protocol.
    pub async fn delete(&self, operation: &str, path: &str) -> Result<Value, CallError> {
        self.send(operation, self.http.delete(format!("{}{path}", self.base))).await
    }

    async fn send(&self, operation: &str, request: reqwest::RequestBuilder) -> Result<Value, CallError> {
        let operation = format!("{}.{operation}", self.service);
        let transport = |source| CallError::Transport { operation: operation.clone(), source };
        let response = request.header("authorization", self.authorization()).send().await.map_err(transport)?;
        let status = response.status();
        let body = response.text().await.map_err(transport)?;
        if !status.is_success() {
            let body = body.chars().take(600).collect();
            return Err(CallError::Refused { operation, status: status.as_u16(), body });
        }
        // Some answers (an accepted asynchronous invocation) have no body.
        Ok(serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Emulators read the service and Region from the credential scope; nothing here checks the signature.
    fn authorization(&self) -> String {
        format!(
            "AWS4-HMAC-SHA256 Credential=lab/20260101/{REGION}/{}/aws4_request, SignedHeaders=host, Signature=lab",
            self.service
        )
    }
}
