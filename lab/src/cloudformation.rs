//! In front of the emulator's CloudFormation: hands the resource types it does not know to the stand-ins that serve
//! them, so that the template which is deployed locally is the one that users deploy.
//!
//! Only calls that carry a template with such a resource are touched; everything else passes byte for byte. A document
//! is handed over when the change set is made, because the emulator sees no change in a template that differs only
//! there.

#![expect(clippy::wildcard_enum_match_arm, reason = "every other kind of YAML or JSON value is refused alike")]

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header, request::Parts};
use axum::response::Response;
use reqwest::Url;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::events::EventRouter;
use crate::ssm::Ssm;
use crate::ssm::rules::{Fault, Rule};

pub mod template;

use template::{Handed, Scope};

/// The largest request: a template is 1 MB at most.
const REQUEST_BYTES_MAX: usize = 8 << 20;

/// A template in the request itself (AWS CloudFormation quotas).
const TEMPLATE_BODY_BYTES: usize = 51_200;

/// The calls that carry a template.
const WITH_TEMPLATE: [&str; 4] = ["CreateChangeSet", "CreateStack", "UpdateStack", "ValidateTemplate"];

/// Told of each handover, in words: the resource type, its name in the template, its own name.
type OnHandover = Box<dyn Fn(&str) + Send + Sync>;

/// Why a call could not be passed on.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// The template could not be read or resolved.
    #[error("template: {0}")]
    Template(#[from] template::TemplateError),
    /// The emulator did not answer.
    #[error("upstream: {0}")]
    Upstream(#[from] reqwest::Error),
    /// The request is not a form.
    #[error("the request is no form, or its TemplateURL no URL of a bucket")]
    Form,
    /// The stand-in refused the document.
    #[error("document: {0}")]
    Document(#[from] Fault),
    /// A resource type nobody serves.
    #[error("{0} is served by no stand-in")]
    Unserved(String),
}

struct Inner {
    upstream: String,
    ssm: Ssm,
    bus: EventRouter,
    on_handover: OnHandover,
    http: reqwest::Client,
    address: SocketAddr,
    stacks: Mutex<BTreeMap<String, Remembered>>,
}

/// What of a stack is needed again.
#[derive(Debug, Clone, Default)]
struct Remembered {
    /// For `UsePreviousValue`.
    parameters: BTreeMap<String, String>,
    /// For `DeleteStack`.
    documents: Vec<String>,
    /// The composite alarms, as the template writes them.
    composites: Vec<(String, Value)>,
}

/// The proxy. Clones are the same one.
#[derive(Clone)]
pub struct CloudFormationProxy {
    inner: Arc<Inner>,
}

impl fmt::Debug for CloudFormationProxy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("CloudFormationProxy").field("address", &self.inner.address).finish_non_exhaustive()
    }
}

impl CloudFormationProxy {
    /// Opens a loopback port and serves until the runtime ends. `upstream` is the emulator's base URL (CloudFormation
    /// and S3); `AWS::Region` and `AWS::AccountId` stand for those of `ssm`.
    ///
    /// # Errors
    /// No port could be opened.
    pub async fn start(
        upstream: &str,
        ssm: Ssm,
        bus: EventRouter,
        on_handover: impl Fn(&str) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let inner = Inner {
            upstream: upstream.trim_end_matches('/').to_owned(),
            ssm,
            bus,
            on_handover: Box::new(on_handover),
            http: reqwest::Client::new(),
            address: listener.local_addr()?,
            stacks: Mutex::default(),
        };
        let proxy = Self { inner: Arc::new(inner) };
        let served = proxy.clone();
        let app = Router::new().fallback(move |request: Request| {
            let proxy = served.clone();
            async move { proxy.serve(request).await }
        });
        tokio::spawn(async move { axum::serve(listener, app).await });
        Ok(proxy)
    }

    /// Its base URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.inner.address)
    }

    /// Its address.
    pub fn address(&self) -> SocketAddr {
        self.inner.address
    }

    /// A deployed stack's composite alarms: name in the template, and properties as they are written there.
    pub fn composites(&self, stack: &str) -> Vec<(String, Value)> {
        let stacks = self.inner.stacks.lock().unwrap_or_else(PoisonError::into_inner);
        stacks.get(stack).map(|remembered| remembered.composites.clone()).unwrap_or_default()
    }

    async fn serve(&self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let Ok(body) = to_bytes(body, REQUEST_BYTES_MAX).await else {
            return refuse("the request is too large or was cut off");
        };
        match self.answer(&parts, body).await {
            Ok(response) => response,
            Err(error) => refuse(&error.to_string()),
        }
    }

    async fn answer(&self, parts: &Parts, body: Bytes) -> Result<Response, ProxyError> {
        let form = Form::parse(&body)?;
        let action = form.get("Action").unwrap_or_default().to_owned();
        if WITH_TEMPLATE.contains(&action.as_str())
            && let Some(text) = self.template(&form).await?
        {
            self.definitions(&text).await?;
            if let Some(body) = self.hand_over(&action, &form, &text).await? {
                return self.pass(parts, Bytes::from(body)).await;
            }
        }
        let response = self.pass(parts, body).await?;
        if action == "DeleteStack" && response.status().is_success() {
            self.forget(form.get("StackName").unwrap_or_default());
        }
        Ok(response)
    }

    async fn template(&self, form: &Form) -> Result<Option<String>, ProxyError> {
        if let Some(body) = form.get("TemplateBody") {
            return Ok(Some(body.to_owned()));
        }
        let Some(url) = form.get("TemplateURL") else { return Ok(None) };
        let url = format!("{}{}", self.inner.upstream, object_path(url)?);
        Ok(Some(self.inner.http.get(url).send().await?.error_for_status()?.text().await?))
    }

    /// Makes the copy in the bucket JSON where a state machine's definition was uploaded as YAML: the emulator keeps it as it
    /// comes and runs only JSON.
    async fn definitions(&self, text: &str) -> Result<(), ProxyError> {
        for object in uploaded(&template::parse(text)?) {
            let url = format!("{}/{object}", self.inner.upstream);
            let definition = self.inner.http.get(&url).send().await?.error_for_status()?.text().await?;
            let definition = template::parse(&definition)?.to_string();
            self.inner.http.put(&url).body(definition).send().await?.error_for_status()?;
        }
        Ok(())
    }

    /// The request to pass on instead; `None`: nothing in the template concerns us.
    async fn hand_over(&self, action: &str, form: &Form, text: &str) -> Result<Option<String>, ProxyError> {
        let mut template = template::parse(text)?;
        let stack = stack_name(form.get("StackName").unwrap_or("stack")).to_owned();
        let parameters = self.parameters(&stack, form, &template);
        let (region, account) = (self.inner.ssm.region(), self.inner.ssm.account());
        let scope = Scope { stack: &stack, region, account, parameters: &parameters };
        let handed = template::take_out(&mut template, &scope)?;
        if handed.is_empty() {
            return Ok(None);
        }
        if action != "ValidateTemplate" {
            for resource in &handed {
                self.give(resource)?;
            }
            let documents = handed.iter().filter(|resource| resource.kind == template::DOCUMENT);
            let documents = documents.map(|resource| resource.physical_id.clone()).collect();
            let composites = handed.iter().filter(|resource| resource.kind == template::COMPOSITE_ALARM);
            let composites = composites.map(|one| (one.logical_id.clone(), one.properties.clone())).collect();
            let mut stacks = self.inner.stacks.lock().unwrap_or_else(PoisonError::into_inner);
            stacks.insert(stack, Remembered { parameters, documents, composites });
        }
        let changed = template.to_string();
        let mut form = form.clone();
        match form.get("TemplateURL") {
            Some(url) if changed.len() > TEMPLATE_BODY_BYTES => {
                let url = format!("{}{}.local", self.inner.upstream, object_path(url)?);
                self.inner.http.put(&url).body(changed).send().await?.error_for_status()?;
                form.set("TemplateURL", url);
            }
            _ => {
                form.remove("TemplateURL");
                form.set("TemplateBody", changed);
            }
        }
        Ok(Some(form.encode()?))
    }

    fn parameters(&self, stack: &str, form: &Form, template: &Value) -> BTreeMap<String, String> {
        let declared = template["Parameters"].as_object().into_iter().flatten();
        let mut values: BTreeMap<String, String> = declared
            .filter_map(|(name, parameter)| match &parameter["Default"] {
                Value::Null => None,
                Value::String(text) => Some((name.clone(), text.clone())),
                other => Some((name.clone(), other.to_string())),
            })
            .collect();
        let before = self.inner.stacks.lock().unwrap_or_else(PoisonError::into_inner).get(stack).cloned();
        let before = before.unwrap_or_default().parameters;
        for number in 1.. {
            let member = |name: &str| form.get(&format!("Parameters.member.{number}.{name}"));
            let Some(key) = member("ParameterKey") else { break };
            let previous = member("UsePreviousValue") == Some("true");
            let value = if previous { before.get(key).cloned() } else { member("ParameterValue").map(str::to_owned) };
            values.extend(value.map(|value| (key.to_owned(), value)));
        }
        values
    }

    fn give(&self, resource: &Handed) -> Result<(), ProxyError> {
        match resource.kind.as_str() {
            template::DOCUMENT => self.give_document(resource),
            template::BUS_POLICY => {
                self.inner.bus.set_policy(resource.properties["Statement"].clone());
                (self.inner.on_handover)(&format!("{} {}", resource.kind, resource.logical_id));
                Ok(())
            }
            // Kept for whoever looks at the alarms (`crate::alarms`).
            template::COMPOSITE_ALARM => Ok(()),
            other => Err(ProxyError::Unserved(other.to_owned())),
        }
    }

    /// Creates the document, or makes the given content its new default version.
    fn give_document(&self, resource: &Handed) -> Result<(), ProxyError> {
        let name = resource.physical_id.as_str();
        let content = match &resource.properties["Content"] {
            Value::String(text) => text.clone(),
            object => object.to_string(),
        };
        let format = resource.properties["DocumentFormat"].as_str().unwrap_or("JSON");
        let kind = resource.properties["DocumentType"].as_str().unwrap_or("Command");
        let request = json!({"Name": name, "Content": content, "DocumentFormat": format, "DocumentType": kind});
        match self.inner.ssm.call("CreateDocument", &request) {
            Ok(_) => {}
            Err(fault) if fault.rule == Rule::DocumentExists => {
                let update = json!({"Name": name, "Content": content, "DocumentFormat": format,
                    "DocumentVersion": "$LATEST"});
                match self.inner.ssm.call("UpdateDocument", &update) {
                    Ok(_) => {}
                    Err(fault) if fault.rule == Rule::DocumentDuplicate => return Ok(()),
                    Err(fault) => return Err(fault.into()),
                }
                let latest = json!({"Name": name, "DocumentVersion": "$LATEST"});
                self.inner.ssm.call("UpdateDocumentDefaultVersion", &latest)?;
            }
            Err(fault) => return Err(fault.into()),
        }
        (self.inner.on_handover)(&format!("{} {} is {name}", resource.kind, resource.logical_id));
        Ok(())
    }

    fn forget(&self, stack: &str) {
        let gone = self.inner.stacks.lock().unwrap_or_else(PoisonError::into_inner).remove(stack_name(stack));
        for name in gone.unwrap_or_default().documents {
            // Someone may have deleted it by hand.
            let _gone = self.inner.ssm.call("DeleteDocument", &json!({ "Name": name }));
        }
    }

    async fn pass(&self, parts: &Parts, body: Bytes) -> Result<Response, ProxyError> {
        let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let url = format!("{}{path}", self.inner.upstream);
        let mut headers: HeaderMap = parts.headers.clone();
        // The connection is ours, not the caller's.
        for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH, header::EXPECT] {
            headers.remove(name);
        }
        let answer = self.inner.http.request(parts.method.clone(), url).headers(headers).body(body).send().await?;
        let (status, mut headers) = (answer.status(), answer.headers().clone());
        let bytes = answer.bytes().await?;
        headers.remove(header::TRANSFER_ENCODING);
        headers.remove(header::CONNECTION);
        let mut response = Response::new(Body::from(bytes));
        *response.status_mut() = status;
        *response.headers_mut() = headers;
        Ok(response)
    }
}

/// A stack is named by its name or its ARN.
fn stack_name(given: &str) -> &str {
    given.split_once(":stack/").map_or(given, |(_, rest)| rest.split('/').next().unwrap_or(rest))
}

/// `/<bucket>/<key>` of an S3 URL, path style or virtual-hosted style.
fn object_path(url: &str) -> Result<String, ProxyError> {
    let url = Url::parse(url).map_err(|_| ProxyError::Form)?;
    let host = url.host_str().ok_or(ProxyError::Form)?;
    let bucket = host.split_once(".s3.").or_else(|| host.split_once(".s3-")).map(|(bucket, _)| bucket);
    Ok(bucket.map_or_else(|| url.path().to_owned(), |bucket| format!("/{bucket}{}", url.path())))
}

/// The uploaded definitions of a template's state machines, as `<bucket>/<key>`.
fn uploaded(template: &Value) -> Vec<String> {
    let resources = template["Resources"].as_object().into_iter().flat_map(|all| all.values());
    let machines = resources.filter(|one| one["Type"] == "AWS::Serverless::StateMachine");
    let found = machines.map(|one| &one["Properties"]["DefinitionUri"]).filter_map(|given| match given {
        Value::String(uri) => uri.strip_prefix("s3://").map(str::to_owned),
        place => Some(format!("{}/{}", place["Bucket"].as_str()?, place["Key"].as_str()?)),
    });
    found.collect()
}

fn refuse(message: &str) -> Response {
    let escaped = message.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let body = format!(
        "<ErrorResponse xmlns=\"http://cloudformation.amazonaws.com/doc/2010-05-15/\"><Error><Type>Sender</Type>\
         <Code>ValidationError</Code><Message>{escaped}</Message></Error><RequestId>local</RequestId></ErrorResponse>"
    );
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/xml"));
    response
}

/// A Query-protocol request, in its order.
#[derive(Debug, Clone)]
struct Form {
    pairs: Vec<(String, String)>,
}

impl Form {
    fn parse(body: &[u8]) -> Result<Self, ProxyError> {
        let text = std::str::from_utf8(body).map_err(|_| ProxyError::Form)?;
        let url = Url::parse(&format!("http://form/?{text}")).map_err(|_| ProxyError::Form)?;
        Ok(Self { pairs: url.query_pairs().into_owned().collect() })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn remove(&mut self, name: &str) {
        self.pairs.retain(|(key, _)| key != name);
    }

    fn set(&mut self, name: &str, value: String) {
        self.remove(name);
        self.pairs.push((name.to_owned(), value));
    }

    fn encode(&self) -> Result<String, ProxyError> {
        let mut url = Url::parse("http://form/").map_err(|_| ProxyError::Form)?;
        url.query_pairs_mut().extend_pairs(&self.pairs);
        Ok(url.query().unwrap_or_default().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploaded_definitions_are_found_in_both_spellings() {
        let machine =
            |uri: &Value| json!({"Type": "AWS::Serverless::StateMachine", "Properties": {"DefinitionUri": uri}});
        let template = json!({"Resources": {
            "A": machine(&json!({"Bucket": "b", "Key": "k"})), "B": machine(&json!("s3://b/more/k")),
            "C": machine(&json!("workflows/here.yaml")), "D": {"Type": "AWS::SNS::Topic"},
        }});
        assert_eq!(uploaded(&template), ["b/k", "b/more/k"]);
    }
}
