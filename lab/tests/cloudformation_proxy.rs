//! The CloudFormation proxy and Parameter Store's pass-through, before an upstream that says what it was asked.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, Uri};
use espalier_lab::cloudformation::CloudFormationProxy;
use espalier_lab::events::EventRouter;
use espalier_lab::ssm::rules::Rule;
use espalier_lab::ssm::{EventSink, Options, Ssm};
use serde_json::{Value, json};

const TEMPLATE: &str = "
Resources:
  Doc:
    Type: AWS::SSM::Document
    Properties:
      Name: !Sub '${AWS::StackName}-doc'
      Content:
        schemaVersion: '2.2'
        mainSteps: [{action: 'aws:runShellScript', name: a, inputs: {runCommand: ['true']}}]
  Topic: {Type: 'AWS::SNS::Topic', DependsOn: Doc, Properties: {TopicName: !Ref Doc}}
";

#[derive(Default)]
struct Heard(Mutex<Vec<Value>>);

impl EventSink for Heard {
    fn emit(&self, _: &str, kind: &str, _: Vec<String>, detail: Value) {
        assert_eq!(kind, "Parameter Store Change");
        self.0.lock().unwrap().push(detail);
    }
}

/// What the emulator behind was asked.
type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

async fn upstream() -> (String, Asked) {
    let asked = Asked::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let keep = Arc::clone(&asked);
    let app = Router::new().fallback(async move |uri: Uri, headers: HeaderMap, body: Bytes| {
        let target = headers.get("x-amz-target").map(|value| value.to_str().unwrap().to_owned());
        keep.lock().unwrap().push((target.clone().unwrap_or_else(|| uri.path().to_owned()), body));
        match (target.as_deref(), uri.path()) {
            (Some("AmazonSSM.GetParameter"), _) => json!({"Parameter": {"Type": "SecureString"}}).to_string(),
            (Some("AmazonSSM.PutParameter"), _) => json!({"Version": 1}).to_string(),
            (_, "/bucket/key") => TEMPLATE.to_owned(),
            _ => "{}".to_owned(),
        }
    });
    tokio::spawn(async move { axum::serve(listener, app).await });
    (base, asked)
}

struct World {
    asked: Asked,
    heard: Arc<Heard>,
    ssm: Ssm,
    proxy: CloudFormationProxy,
    said: Arc<Mutex<Vec<String>>>,
    _directory: tempfile::TempDir,
}

async fn world() -> World {
    let (base, asked) = upstream().await;
    let (directory, heard) = (tempfile::tempdir().unwrap(), Arc::new(Heard::default()));
    let ssm = Ssm::start(Options::new(&base, directory.path()), heard.clone()).await.unwrap();
    let said = Arc::<Mutex<Vec<String>>>::default();
    let keep = Arc::clone(&said);
    let proxy = CloudFormationProxy::start(&base, ssm.clone(), EventRouter::new(&base), move |what: &str| {
        keep.lock().unwrap().push(what.into());
    });
    World { asked, heard, ssm, proxy: proxy.await.unwrap(), said, _directory: directory }
}

impl World {
    async fn form(&self, pairs: &[(&str, &str)]) -> (u16, String) {
        let answer = reqwest::Client::new().post(self.proxy.url()).form(pairs).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    fn last_form(&self) -> Vec<(String, String)> {
        let asked = self.asked.lock().unwrap();
        let body = std::str::from_utf8(&asked.last().unwrap().1).unwrap();
        reqwest::Url::parse(&format!("http://x/?{body}")).unwrap().query_pairs().into_owned().collect()
    }

    async fn ssm(&self, operation: &str, request: &Value) -> (u16, String) {
        let sent = reqwest::Client::new()
            .post(self.ssm.url())
            .header("x-amz-target", format!("AmazonSSM.{operation}"))
            .header("authorization", "AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-1/ssm/aws4_request")
            .json(request);
        let answer = sent.send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }
}

#[tokio::test]
async fn documents_are_handed_over_and_the_rest_passes_on() {
    let world = world().await;
    let url = "https://bucket.s3.eu-west-1.amazonaws.com/key";
    let call =
        [("Action", "CreateChangeSet"), ("StackName", "st"), ("TemplateURL", url), ("Capabilities.member.1", "X")];
    for _ in 0..2 {
        assert_eq!(world.form(&call).await.0, 200);
    }
    let form = world.last_form();
    assert!(
        form.contains(&("Capabilities.member.1".into(), "X".into())) && form.iter().all(|(k, _)| k != "TemplateURL")
    );
    let (_, body) = form.iter().find(|(key, _)| key == "TemplateBody").unwrap();
    let expected = json!({"Resources": {"Topic": {"Type": "AWS::SNS::Topic", "Properties": {"TopicName": "st-doc"}}}});
    assert_eq!(serde_json::from_str::<Value>(body).unwrap(), expected);
    assert_eq!(*world.said.lock().unwrap(), ["AWS::SSM::Document Doc is st-doc"]);
    let described = world.ssm.call("DescribeDocument", &json!({"Name": "st-doc"})).unwrap();
    assert_eq!(described["Document"]["LatestVersion"], "1");
    let changed = TEMPLATE.replace("'true'", "'false'");
    world.form(&[("Action", "UpdateStack"), ("StackName", "st"), ("TemplateBody", &changed)]).await;
    let described = world.ssm.call("DescribeDocument", &json!({"Name": "st-doc"})).unwrap();
    assert_eq!(described["Document"]["DefaultVersion"], "2");
    world.form(&[("Action", "DeleteStack"), ("StackName", "st")]).await;
    assert!(world.ssm.call("DescribeDocument", &json!({"Name": "st-doc"})).is_err());
}

#[tokio::test]
async fn what_does_not_concern_it_passes_byte_for_byte() {
    let world = world().await;
    let body = "StackName=a%2Db&Action=CreateStack&TemplateBody=%7B%22Resources%22:+{}%7D";
    reqwest::Client::new().post(world.proxy.url()).body(body).send().await.unwrap();
    assert_eq!(world.asked.lock().unwrap().last().unwrap().1, body);
}

#[tokio::test]
async fn a_template_that_cannot_be_resolved_is_refused() {
    let world = world().await;
    let template = "Resources: {D: {Type: 'AWS::SSM::Document', Properties: {Name: !GetAtt T.Arn}}}";
    let (status, text) = world.form(&[("Action", "CreateStack"), ("StackName", "s"), ("TemplateBody", template)]).await;
    assert_eq!(status, 400);
    assert!(text.contains("<Code>ValidationError</Code>"), "{text}");
    assert!(world.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn parameters_pass_on_and_are_announced() {
    let world = world().await;
    let put = json!({"Name": "/a/b", "Value": "v", "Type": "SecureString", "Description": "d"});
    assert_eq!(world.ssm("PutParameter", &put).await.0, 200);
    assert_eq!(world.asked.lock().unwrap()[0].1, put.to_string());
    assert_eq!(world.ssm("DeleteParameter", &json!({"Name": "/a/b"})).await.0, 200);
    let heard = world.heard.0.lock().unwrap();
    let created = json!({"operation": "Create", "name": "/a/b", "type": "SecureString", "description": "d"});
    assert_eq!(*heard, [created, json!({"operation": "Delete", "name": "/a/b", "type": "SecureString"})]);
}

#[tokio::test]
async fn bad_parameters_are_refused() {
    let world = world().await;
    let put = |name: &str, value: &str| json!({"Name": name, "Value": value, "Type": "String"});
    for (request, rule) in [
        (put("/a", &"x".repeat(4_097)), Rule::ParameterSize),
        (put("/a", "{{ssm:b}}"), Rule::ParameterReference),
        (put("/aws/a", "x"), Rule::ParameterName),
        (put("a/b", "x"), Rule::ParameterName),
        (put("/a b", "x"), Rule::ParameterName),
        (put(&"/a".repeat(16), "x"), Rule::ParameterName),
        (put(&format!("/{}", "a".repeat(1_000)), "x"), Rule::ParameterName),
    ] {
        let (status, text) = world.ssm("PutParameter", &request).await;
        assert!(status == 400 && text.contains(rule.documented().source), "{rule:?}: {text}");
        assert!(text.contains(&format!("[{rule:?}]")), "{rule:?}: {text}");
    }
    assert!(world.asked.lock().unwrap().is_empty() && world.heard.0.lock().unwrap().is_empty());
    let mut advanced = put("/a", &"x".repeat(4_097));
    advanced["Tier"] = "Advanced".into();
    assert_eq!(world.ssm("PutParameter", &advanced).await.0, 200);
}
