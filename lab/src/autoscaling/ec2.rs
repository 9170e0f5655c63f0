//! Running and terminating instances, by EC2's Query API.

use roxmltree::Document;

use crate::aws::REGION;

/// What an instance is launched from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Launch {
    pub(super) template: String,
    pub(super) version: String,
    pub(super) subnet: String,
    /// Those that the group hands on.
    pub(super) tags: Vec<(String, String)>,
}

/// EC2 at one endpoint.
#[derive(Debug)]
pub(super) struct Ec2 {
    endpoint: String,
    http: reqwest::Client,
}

impl Ec2 {
    pub(super) fn new(endpoint: &str) -> Self {
        Self { endpoint: format!("{}/", endpoint.trim_end_matches('/')), http: reqwest::Client::new() }
    }

    /// Runs one instance; its id.
    pub(super) async fn run(&self, launch: &Launch) -> Result<String, String> {
        let mut form = vec![
            ("MinCount".to_owned(), "1".to_owned()),
            ("MaxCount".to_owned(), "1".to_owned()),
            ("LaunchTemplate.LaunchTemplateId".to_owned(), launch.template.clone()),
            ("LaunchTemplate.Version".to_owned(), launch.version.clone()),
            ("SubnetId".to_owned(), launch.subnet.clone()),
            ("TagSpecification.1.ResourceType".to_owned(), "instance".to_owned()),
        ];
        for (number, (key, value)) in (1..).zip(&launch.tags) {
            form.push((format!("TagSpecification.1.Tag.{number}.Key"), key.clone()));
            form.push((format!("TagSpecification.1.Tag.{number}.Value"), value.clone()));
        }
        let answer = self.call("RunInstances", form).await?;
        let document = Document::parse(&answer).map_err(|error| error.to_string())?;
        let id = document.descendants().find(|node| node.has_tag_name("instanceId")).and_then(|node| node.text());
        id.map(str::to_owned).ok_or(answer)
    }

    /// Terminates an instance.
    pub(super) async fn terminate(&self, id: &str) -> Result<(), String> {
        self.call("TerminateInstances", vec![("InstanceId.1".to_owned(), id.to_owned())]).await.map(drop)
    }

    /// moto routes by the credential's scope and checks no signature.
    async fn call(&self, action: &str, mut form: Vec<(String, String)>) -> Result<String, String> {
        form.extend([("Action".to_owned(), action.to_owned()), ("Version".to_owned(), "2016-11-15".to_owned())]);
        let scope = format!("Credential=lab/20260101/{REGION}/ec2/aws4_request");
        let authorization = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0");
        let sent = self.http.post(&self.endpoint).header("authorization", authorization).form(&form).send().await;
        let answer = sent.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
        answer.text().await.map_err(|error| error.to_string())
    }
}
