//! Access-log subscriptions, and what a diagnosis reads.

use std::collections::BTreeMap;

use espalier_aws::lattice::Lattice;
use espalier_domain::id::LogDestination;
use espalier_domain::network::Action;
use espalier_domain::spec::Spec;
use serde_json::{Value, json};

use super::wire::Seen;
use super::{account, document, spec, spec_of, wired};

#[tokio::test]
async fn a_diagnosis_reads_policies_and_logs_and_takes_none_for_none() {
    let wire = wired(|seen| {
        let path = seen.path.split('?').next().unwrap_or_default();
        let body = match path {
            "/servicenetworks/sn-1" => json!({ "id": "sn-1", "authType": "AWS_IAM" }),
            "/services/svc-1" => json!({ "id": "svc-1", "authType": "NONE" }),
            "/authpolicy/sn-1" => json!({ "policy": "{}", "state": "Active" }),
            "/accesslogsubscriptions" => json!({ "items": [] }),
            _ => return (404, json!({ "__type": "ResourceNotFoundException", "message": "no policy" })),
        };
        (200, body)
    })
    .await;
    let lattice = Lattice::new(&wire.sdk());
    let (policies, is_logged) = lattice.policies_and_logs(Some("sn-1"), Some("svc-1")).await.unwrap();
    let seen: Vec<_> = policies.iter().map(|one| (one.is_in_force, one.text.as_deref())).collect();
    assert_eq!((seen, is_logged), (vec![(true, Some("{}")), (false, None)], false));
    assert!(lattice.policies_and_logs(None, None).await.unwrap().0.is_empty());
}

fn logging(destination: &str) -> Spec {
    let mut document = document();
    document["service"]["accessLogs"] = json!({ "destinationArn": destination });
    spec_of(&document)
}

#[tokio::test]
async fn access_logs_are_looked_at_while_the_spec_has_to_do_with_them() {
    let subscribed = |seen: &Seen| match seen.path.split('?').next().unwrap() {
        "/accesslogsubscriptions" => (
            200,
            json!({ "items": [
            { "id": "als-1", "arn": "arn:als-1", "resourceId": "svc-1", "resourceArn": "arn:svc-1",
              "destinationArn": "arn:aws:s3:::logs-a", "createdAt": "2026-11-21T08:00:00Z", "lastUpdatedAt": "2026-11-21T08:00:00Z" },
            { "id": "als-2", "arn": "arn:als-foreign", "resourceId": "svc-1", "resourceArn": "arn:svc-1",
              "destinationArn": "arn:aws:s3:::logs-b", "createdAt": "2026-11-21T08:00:00Z", "lastUpdatedAt": "2026-11-21T08:00:00Z" },
        ] }),
        ),
        _ => account(seen),
    };
    let wire = wired(subscribed).await;
    let look = Lattice::new(&wire.sdk()).look(&logging("arn:aws:s3:::logs-a")).await.unwrap();
    let seen: Vec<_> = look.access_logs.iter().map(|one| (one.destination.as_str(), one.owned.ours)).collect();
    assert_eq!(seen, [("arn:aws:s3:::logs-a", true), ("arn:aws:s3:::logs-b", false)]);
    let asked = wire.asked();
    assert!(asked.iter().any(|path| path.contains("resourceIdentifier=svc-1")), "{asked:?}");

    // Settled under a spec that wants none: there is nothing to be seen.
    let spec = spec();
    let hash = spec.hash().to_owned();
    let wire = wired(move |seen| match account(seen) {
        (200, body) if body["tags"]["espalier:spec-hash"] == "abc" => {
            (200, json!({ "tags": { "espalier:stack": "payments", "espalier:spec-hash": hash } }))
        }
        other => other,
    })
    .await;
    assert_eq!(Lattice::new(&wire.sdk()).look(&spec).await.unwrap().access_logs, []);
    assert!(!wire.asked().iter().any(|path| path.contains("accesslog")), "{:?}", wire.asked());
}

#[tokio::test]
async fn subscriptions_are_made_changed_and_dropped() {
    let destination = LogDestination::parse("arn:aws:s3:::access-logs").unwrap();
    let (service_id, name) = ("svc-1".to_owned(), "payments".to_owned());
    let tags = BTreeMap::from([("espalier:stack".to_owned(), "payments".to_owned())]);
    let answer = json!({ "id": "als-1", "arn": "arn:als-1", "resourceId": "svc-1", "resourceArn": "arn:svc-1",
        "destinationArn": destination.as_str() });
    let wire = wired(move |seen| match seen.method.as_str() {
        "DELETE" => (404, json!({ "__type": "ResourceNotFoundException", "message": "gone" })),
        _ => (200, answer.clone()),
    })
    .await;
    let lattice = Lattice::new(&wire.sdk());
    let made = Action::SubscribeAccessLogs {
        service_id,
        name: name.clone(),
        destination: destination.clone(),
        tags,
        token: "t".into(),
    };
    let changed = Action::UpdateAccessLogs { subscription_id: "als-1".into(), name: name.clone(), destination };
    let dropped = Action::DeleteAccessLogs { subscription_id: "als-1".into(), name, destination: String::new() };
    for action in [made, changed, dropped] {
        lattice.take(&action).await.unwrap().unwrap();
    }
    let sent: Vec<_> = wire.seen().iter().map(|seen| (seen.what(), seen.json())).collect();
    assert_eq!(
        sent,
        [
            (
                "POST /accesslogsubscriptions".to_owned(),
                json!({ "resourceIdentifier": "svc-1", "clientToken": "t",
            "destinationArn": "arn:aws:s3:::access-logs", "tags": { "espalier:stack": "payments" } })
            ),
            ("PATCH /accesslogsubscriptions/als-1".to_owned(), json!({ "destinationArn": "arn:aws:s3:::access-logs" })),
            ("DELETE /accesslogsubscriptions/als-1".to_owned(), Value::Null),
        ]
    );
}
