//! tmp
use espalier_domain::spec::AllowedDomains;
use espalier_edge::{Request, Trigger};
use espalier_reconcile::{Limits, SystemClock};
use provision::Provision;
use serde_json::json;
#[path = "../../../shared/aws/tests/wire/mod.rs"]
mod wire;

#[tokio::test]
async fn story() {
    let vars = std::env::var("C_IDS").unwrap();
    let ids: serde_json::Value = serde_json::from_str(&vars).unwrap();
    let mut spec = json!({
        "version": 1, "stack": "api-service", "owner": "o@example.com", "deletionProtection": false,
        "network": { "vpcId": ids["vpc"], "subnetIds": [ids["subnet"]], "consumers": [{ "vpcId": ids["consumer"], "securityGroupIds": [ids["door"]] }] },
        "service": { "domainName": "api.example.com", "port": 443, "idleTimeoutSeconds": 60, "dns": { "hostedZoneId": ids["zone"] } },
        "targets": { "port": 8443, "securityGroupId": ids["sg"], "select": { "tag": { "key": "role", "value": "web" } } },
        "certificate": { "dnsNames": ["api.example.com"], "validityHours": 168, "renewBeforeHours": 56 },
        "prober": { "securityGroupId": ids["prober"] },
        "healthCheck": if std::env::var("C_HC").is_ok() { json!({"enabled": true, "path": "/healthz", "intervalSeconds": 30}) } else { json!({"enabled": false}) },
    });
    let sdk = espalier_aws::sdk().await;
    let p = Provision::new(&sdk, AllowedDomains::parse("example.com").unwrap(), SystemClock);
    let go = async |spec: &serde_json::Value, payload: serde_json::Value| {
        if payload["mode"] != "plan" {
            let ssm = aws_sdk_ssm::Client::new(&sdk);
            ssm.put_parameter().name("/espalier-spec/api-service").overwrite(true).r#type(aws_sdk_ssm::types::ParameterType::String).value(spec.to_string()).send().await.unwrap();
        }
        let at = std::time::Instant::now();
        let limits = Limits::until(time::OffsetDateTime::now_utc() + time::Duration::seconds(60));
        let answer = p.answer(Trigger::parse(payload.clone()).unwrap(), limits).await;
        println!("=== {payload}  {:?}", at.elapsed());
        match answer { Ok(a) => { if let Some(t) = &a.plan { println!("{t}"); } println!("{}", serde_json::to_string_pretty(&a).unwrap()) }, Err(e) => println!("ERR {e}") }
    };
    go(&spec, json!({"stack": "api-service", "mode": "plan", "spec": spec})).await;
    go(&spec, json!({"stack": "api-service"})).await;
    go(&spec, json!({"stack": "api-service"})).await;
    go(&spec, json!({"espalier": "sweep"})).await;
    spec["state"] = json!("absent");
    go(&spec, json!({"stack": "api-service", "mode": "plan", "spec": spec})).await;
    go(&spec, json!({"stack": "api-service"})).await;
    go(&spec, json!({"stack": "api-service"})).await;
}
