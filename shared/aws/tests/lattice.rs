//! VPC Lattice on the wire: what a look asks and makes of the answers, and what each step sends.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

#[path = "lattice/logs.rs"]
mod logs;
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use espalier_aws::error::Kind;
use espalier_aws::lattice::Lattice;
use espalier_domain::failure::{Failure, Word, chain};
use espalier_domain::id::{HostName, HostedZoneId, SecurityGroupId, TargetId, VpcId};
use espalier_domain::network::{Action, SeenFailure, Status, TargetGroupWant, TargetStatus, target_group_name};
use espalier_domain::spec::{AllowedDomains, HealthCheck, Spec, parse};
use serde_json::{Value, json};
use wire::{Seen, Wire};

const VPC: &str = "vpc-0123456789abcdef0";
const CONSUMER: &str = "vpc-0123456789abcdef1";
const GROUP: &str = "sg-0123456789abcdef0";

fn document() -> Value {
    json!({
        "version": 1, "stack": "payments", "owner": "o@example.com",
        "network": { "vpcId": VPC, "subnetIds": ["subnet-0123456789abcdef0"],
                     "consumers": [{ "vpcId": CONSUMER, "securityGroupIds": [GROUP] }] },
        "service": { "domainName": "pay.example.com", "port": 443, "dns": { "hostedZoneId": "Z0123456789" } },
        "targets": { "port": 8443, "securityGroupId": GROUP, "select": { "instanceIds": ["i-0123456789abcdef0"] } },
        "certificate": { "dnsNames": ["pay.example.com"], "validityHours": 168, "renewBeforeHours": 56 },
        "prober": { "securityGroupId": GROUP },
    })
}

fn failure(code: Option<&str>, message: &str) -> SeenFailure {
    SeenFailure { code: code.map(str::to_owned), message: Some(message.to_owned()) }
}

fn spec_of(document: &Value) -> Spec {
    parse(&document.to_string(), &AllowedDomains::parse("example.com").unwrap()).unwrap()
}

fn spec() -> Spec {
    spec_of(&document())
}

fn arn(id: &str) -> String {
    format!("arn:aws:vpc-lattice:eu-west-1:123456789012:x/{id}")
}

fn missing() -> (u16, Value) {
    (404, json!({ "__type": "ResourceNotFoundException", "message": "gone", "resourceId": "x", "resourceType": "Y" }))
}

/// A small account: our stack half way, and neighbours that must not be touched.
#[allow(clippy::too_many_lines, reason = "one answer after the other")]
fn account(seen: &Seen) -> (u16, Value) {
    let path = seen.path.replace("%3A", ":").replace("%2F", "/");
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let group = target_group_name(&spec());
    let body = match path {
        // Two pages, to be found out when only one is read.
        "/servicenetworks" if query.contains("nextToken") => {
            json!({ "items": [{ "id": "sn-ours", "arn": arn("sn-ours"), "name": "payments-network" }] })
        }
        "/servicenetworks" => json!({ "nextToken": "2", "items": [
            { "id": "sn-shared", "arn": arn("sn-shared"), "name": "payments-network" },
            { "id": "sn-else", "arn": arn("sn-else"), "name": "payments-network-2" }] }),
        "/services" => json!({ "items": [
            { "id": "svc-1", "arn": arn("svc-1"), "name": "payments" },
            { "id": "svc-2", "arn": arn("svc-2"), "name": "payments2" }] }),
        "/services/svc-1" => json!({
            "id": "svc-1", "status": "ACTIVE", "customDomainName": "pay.example.com", "idleTimeoutSeconds": 60,
            "dnsEntry": { "domainName": "Payments-1.7d67968.vpc-lattice-svcs.eu-west-1.on.aws.", "hostedZoneId": "Z9" } }),
        "/services/svc-1/listeners" => json!({ "items": [
            { "id": "listener-1", "arn": arn("listener-1"), "name": "payments-tls", "port": 443, "protocol": "TLS_PASSTHROUGH" },
            { "id": "listener-2", "arn": arn("listener-2"), "name": "other", "port": 80, "protocol": "HTTP" },
            { "id": "listener-3", "arn": arn("listener-3"), "name": "going", "port": 81, "protocol": "HTTP" }] }),
        "/services/svc-1/listeners/listener-1" => {
            json!({ "lastUpdatedAt": "2026-11-21T08:00:00Z", "defaultAction": { "forward": { "targetGroups": [
            { "targetGroupIdentifier": "tg-1", "weight": 100 }] } } })
        }
        "/services/svc-1/listeners/listener-2" => {
            json!({ "lastUpdatedAt": "2026-11-21T08:00:00Z", "defaultAction": { "fixedResponse": { "statusCode": 404 } } })
        }
        "/targetgroups" => json!({ "items": [
            { "id": "tg-1", "arn": arn("tg-1"), "name": group },
            { "id": "tg-old", "arn": arn("tg-old"), "name": "payments-000000" },
            { "id": "tg-foreign", "arn": arn("tg-foreign"), "name": "payments-foreign" },
            { "id": "tg-2", "arn": arn("tg-2"), "name": "paymentsx" }] }),
        "/targetgroups/tg-1" => json!({
            "id": "tg-1", "arn": arn("tg-1"), "name": group, "status": "CREATE_FAILED", "failureCode": "NoRoom",
            "failureMessage": "no room", "serviceArns": [arn("svc-1")],
            "config": { "protocol": "TCP", "port": 8443, "healthCheck": { "enabled": false, "protocol": "HTTPS" } } }),
        "/targetgroups/tg-old" => {
            json!({ "id": "tg-old", "arn": arn("tg-old"), "name": "payments-000000", "status": "ACTIVE", "serviceArns": [],
            "config": { "healthCheck": { "enabled": true, "protocol": "HTTP", "protocolVersion": "HTTP2", "path": "/healthz",
                "healthCheckIntervalSeconds": 15, "matcher": { "httpCode": "200-299" } } } })
        }
        "/targetgroups/tg-1/listtargets" => json!({ "items": [
            { "id": "i-0123456789abcdef0", "port": 8443, "status": "UNAVAILABLE" },
            { "id": "i-0123456789abcdef9", "port": 8443, "status": "DRAINING" }] }),
        "/targetgroups/tg-old/listtargets" => json!({ "items": [] }),
        "/servicenetworkvpcassociations" => json!({ "items": [
            { "id": "snva-1", "arn": arn("snva-1"), "serviceNetworkId": "sn-ours", "vpcId": CONSUMER, "status": "ACTIVE" },
            { "id": "snva-2", "arn": arn("snva-2"), "serviceNetworkId": "sn-foreign", "vpcId": CONSUMER, "status": "ACTIVE" }] }),
        "/servicenetworkvpcassociations/snva-1" => {
            json!({ "id": "snva-1", "status": "UPDATE_IN_PROGRESS", "securityGroupIds": [GROUP] })
        }
        "/servicenetworkserviceassociations" => json!({ "items": [
            { "id": "snsa-1", "arn": arn("snsa-1"), "serviceNetworkId": "sn-ours", "serviceId": "svc-1",
              "status": "DELETE_FAILED" }] }),
        "/servicenetworkserviceassociations/snsa-1" => {
            json!({ "id": "snsa-1", "status": "DELETE_FAILED", "failureMessage": "stuck" })
        }
        _ if path.starts_with("/tags/") && path.contains("shared") => {
            return (403, json!({ "__type": "AccessDeniedException", "message": "not yours" }));
        }
        _ if path.starts_with("/tags/") && path.contains("foreign") => {
            json!({ "tags": { "espalier:stack": "payroll" } })
        }
        _ if path.starts_with("/tags/") => {
            json!({ "tags": { "espalier:stack": "payments", "espalier:spec-hash": "abc", "team": "x",
                "espalier:hosted-zones": "Z0A Z0B" } })
        }
        _ => return missing(),
    };
    (200, body)
}

async fn wired(answer: impl Fn(&Seen) -> (u16, Value) + Send + 'static) -> Wire {
    Wire::answering(move |seen| {
        let (status, body) = answer(seen);
        (status, body.to_string())
    })
    .await
}

#[tokio::test]
async fn a_look_sees_ours_and_tells_it_from_others() {
    let wire = wired(account).await;
    let look = Lattice::new(&wire.sdk()).look(&spec()).await.unwrap();

    let network = look.network.unwrap().owned;
    assert_eq!((network.id.as_str(), network.ours, network.spec_hash.as_deref()), ("sn-ours", true, Some("abc")));

    let service = look.service.unwrap();
    assert_eq!((service.status, service.idle_timeout_seconds), (Status::Active, Some(60)));
    let zones: Vec<&str> = service.record_zones.iter().map(HostedZoneId::as_str).collect();
    assert_eq!(zones, ["Z0A", "Z0B"]);
    let entry = service.dns_entry.unwrap();
    assert_eq!(entry.domain_name, "payments-1.7d67968.vpc-lattice-svcs.eu-west-1.on.aws");

    let listeners: Vec<_> =
        look.listeners.iter().map(|seen| (seen.port, seen.is_tls_passthrough, seen.forwards.clone())).collect();
    assert_eq!(
        listeners,
        [(443, true, vec![("tg-1".to_owned(), 100)]), (80, false, vec![])],
        "a vanished one is skipped"
    );
    assert_eq!(look.listeners[0].changed_at, time::macros::datetime!(2026-11-21 08:00 UTC));

    let [ours, old] = look.target_groups.as_slice() else { panic!("{:?}", look.target_groups) };
    assert_eq!(ours.status, Status::CreateFailed(failure(Some("NoRoom"), "no room")));
    assert_eq!((&ours.health_check, ours.service_arns.len()), (&None, 1));
    let targets: Vec<_> = ours.targets.iter().map(|target| target.status).collect();
    assert_eq!(targets, [TargetStatus::Unavailable, TargetStatus::Draining]);
    let check = old.health_check.as_ref().unwrap();
    assert_eq!((check.path.as_str(), check.interval_seconds, check.codes.as_str()), ("/healthz", Some(15), "200-299"));

    let [first, second] = look.vpc_associations.as_slice() else { panic!("{:?}", look.vpc_associations) };
    assert_eq!((first.status.clone(), first.owned.ours, first.security_group_ids.len()), (Status::Updating, true, 1));
    assert_eq!((second.network_id.as_str(), second.owned.ours), ("sn-foreign", false));
    assert_eq!(look.service_associations[0].status, Status::DeleteFailed(failure(None, "stuck")));

    let asked = wire.asked();
    let never = ["snva-2", "svc-2", "tg-2", "sn-else"];
    assert!(never.iter().all(|id| !asked.iter().any(|path| path.contains(id))), "{asked:?}");
}

/// The same account seen by a spec that gives everything by id.
fn theirs(seen: &Seen) -> (u16, Value) {
    let path = seen.path.replace("%3A", ":").replace("%2F", "/");
    let body = match path.split('?').next().unwrap() {
        "/servicenetworks/arn:aws:vpc-lattice:eu-west-1:111122223333:servicenetwork/sn-0123456789abcdef0" => {
            json!({ "id": "sn-0123456789abcdef0", "arn": arn("sn-0123456789abcdef0"), "name": "shared" })
        }
        "/services/svc-0123456789abcdef0" => json!({
            "id": "svc-0123456789abcdef0", "arn": arn("svc-0123456789abcdef0"), "name": "any", "status": "ACTIVE",
            "customDomainName": "pay.example.com" }),
        "/targetgroups/tg-0123456789abcdef0" => json!({
            "id": "tg-0123456789abcdef0", "arn": arn("tg"), "name": "any", "status": "ACTIVE",
            "config": { "protocol": "TCP" } }),
        "/targetgroups/tg-0123456789abcdef1" => {
            return (403, json!({ "__type": "AccessDeniedException", "message": "no" }));
        }
        "/servicenetworkvpcassociations" => json!({ "items": [
            { "id": "snva-1", "arn": arn("snva-1"), "serviceNetworkId": "sn-0123456789abcdef0", "vpcId": CONSUMER,
              "createdBy": "999999999999", "status": "ACTIVE" },
            { "id": "snva-mine", "arn": arn("snva-mine"), "serviceNetworkId": "sn-0123456789abcdef0",
              "vpcId": "vpc-0123456789abcdef8", "createdBy": "123456789012", "status": "ACTIVE" },
            { "id": "snva-spoke", "arn": arn("snva-spoke"), "serviceNetworkId": "sn-0123456789abcdef0",
              "vpcId": "vpc-0123456789abcdef9", "createdBy": "999999999999", "status": "ACTIVE" }] }),
        "/servicenetworkvpcassociations/snva-1" | "/servicenetworkvpcassociations/snva-mine" => {
            json!({ "status": "ACTIVE", "securityGroupIds": [GROUP] })
        }
        path if path.starts_with("/tags/") => json!({ "tags": { "espalier:stack": "payments" } }),
        path if path.starts_with("/servicenetworks/") || path.starts_with("/targetgroups/tg-0123456789abcdef2") => {
            return missing();
        }
        _ => json!({ "items": [] }),
    };
    (200, body)
}

#[tokio::test]
async fn what_is_given_by_id_is_read_by_id_and_is_never_ours() {
    let wire = wired(theirs).await;
    let mut document = document();
    document["manage"] = json!("rotation");
    document["lattice"] = json!({ "serviceId": "svc-0123456789abcdef0", "targetGroupIds":
        ["tg-0123456789abcdef0", "tg-0123456789abcdef1", "tg-0123456789abcdef2"] });
    document["network"]["serviceNetworkId"] =
        json!("arn:aws:vpc-lattice:eu-west-1:111122223333:servicenetwork/sn-0123456789abcdef0");
    let look = Lattice::new(&wire.sdk()).look(&spec_of(&document)).await.unwrap();
    let (network, service) = (look.network.unwrap().owned, look.service.unwrap().owned);
    assert_eq!((network.id.as_str(), network.ours, service.ours), ("sn-0123456789abcdef0", false, false));
    let [group] = look.target_groups.as_slice() else { panic!("{:?}", look.target_groups) };
    assert!(group.is_tcp && !group.owned.ours);
    let seen: Vec<&str> = look.vpc_associations.iter().map(|one| one.owned.id.as_str()).collect();
    assert_eq!(seen, ["snva-1", "snva-mine"], "of the others nothing is asked");
    let asked = wire.asked();
    assert!(!asked.iter().any(|path| path.contains("snva-spoke")), "{asked:?}");
    let by_network = |path: &&String| path.contains("serviceassociations") && path.contains("serviceNetworkIdentifier");
    assert_eq!(asked.iter().filter(by_network).count(), 0, "a shared network may hold hundreds of services");
}

#[tokio::test]
async fn dropping_authorization_first_asks_for_none_and_then_removes_the_policy() {
    let wire = wired(|seen| if seen.path.starts_with("/authpolicy") { missing() } else { (200, json!({})) }).await;
    let drop = Action::DropAuth { service_id: "svc-1".into(), name: "payments".into() };
    Lattice::new(&wire.sdk()).take(&drop).await.unwrap().unwrap();
    let asked: Vec<String> = wire.seen().iter().map(wire::Seen::what).collect();
    assert_eq!(asked, ["PATCH /services/svc-1", "DELETE /authpolicy/svc-1"], "a policy that is gone is no error");
}

#[tokio::test]
async fn policies_are_read_where_somebody_needs_to_know_them() {
    let guarded = |seen: &Seen| match seen.path.split('?').next().unwrap() {
        "/servicenetworks/sn-ours" => (200, json!({ "id": "sn-ours", "arn": arn("sn-ours"), "authType": "AWS_IAM" })),
        "/authpolicy/svc-1" => (200, json!({ "policy": "{\"Version\":\"2012-10-17\"}", "state": "Active" })),
        _ => account(seen),
    };
    let plain = wired(guarded).await;
    let look = Lattice::new(&plain.sdk()).look(&spec()).await.unwrap();
    assert_eq!(look.network.unwrap().auth_policy.as_deref(), Some(""), "AWS_IAM without a policy");
    assert!(!plain.asked().iter().any(|path| path.contains("/authpolicy/svc-1")), "the spec has none");
    let mut document = document();
    document["service"]["authPolicy"] = json!({ "Version": "2012-10-17", "Statement": [{ "Effect": "Allow",
        "Principal": "*", "Action": "vpc-lattice-svcs:Invoke", "Resource": "*" }] });
    let wire = wired(guarded).await;
    let service = Lattice::new(&wire.sdk()).look(&spec_of(&document)).await.unwrap().service.unwrap();
    assert_eq!(service.auth_policy.as_deref(), Some("{\"Version\":\"2012-10-17\"}"));
}

#[tokio::test]
async fn an_empty_account_is_seen_empty_with_few_calls() {
    let wire = wired(|_| (200, json!({ "items": [] }))).await;
    let look = Lattice::new(&wire.sdk()).look(&spec()).await.unwrap();
    assert_eq!((look.network, look.service, look.target_groups.len()), (None, None, 0));
    assert_eq!(wire.asked().len(), 4, "{:?}", wire.asked());
}

#[tokio::test]
async fn associations_are_listed_once_and_in_the_largest_pages() {
    let other = "vpc-0123456789abcdef2";
    let of = move |seen: &Seen| {
        let one = json!({ "id": "snva-9", "arn": arn("snva-9"), "serviceNetworkId": "sn-elsewhere", "vpcId": other });
        if seen.path.contains(other) { (200, json!({ "items": [one] })) } else { account(seen) }
    };
    let lists = |wire: &Wire, kind: &str| -> Vec<String> {
        wire.asked().into_iter().filter(|path| path.starts_with(&format!("GET {kind}?"))).collect()
    };
    let (vpcs, services) = ("/servicenetworkvpcassociations", "/servicenetworkserviceassociations");
    let wire = wired(of).await;
    Lattice::new(&wire.sdk()).look(&spec()).await.unwrap();
    assert!(matches!(&lists(&wire, vpcs)[..], [one] if one.contains("serviceNetworkIdentifier=sn-ours")));
    assert!(matches!(&lists(&wire, services)[..], [one] if one.contains("serviceIdentifier=svc-1")));
    for kind in ["/servicenetworks", "/services", "/targetgroups", vpcs, services] {
        let asked = lists(&wire, kind);
        assert!(!asked.is_empty() && asked.iter().all(|path| path.contains("maxResults=100")), "{kind}: {asked:?}");
    }
    // A VPC that is not in the network may be in another one.
    let mut document = document();
    document["network"]["consumers"][0]["vpcId"] = json!(other);
    let wire = wired(of).await;
    let look = Lattice::new(&wire.sdk()).look(&spec_of(&document)).await.unwrap();
    assert_eq!(lists(&wire, vpcs).len(), 2);
    assert!(look.vpc_associations.iter().any(|one| one.network_id == "sn-elsewhere"), "{:?}", look.vpc_associations);
    // What others have in the network matters when it is to go.
    (document["state"], document["deletionProtection"]) = (json!("absent"), json!(false));
    let wire = wired(of).await;
    Lattice::new(&wire.sdk()).look(&spec_of(&document)).await.unwrap();
    assert_eq!(lists(&wire, services).len(), 2);
}

#[tokio::test]
async fn a_resource_that_vanishes_between_two_calls_is_not_an_error() {
    let wire = wired(|seen| {
        let path = seen.path.split('?').next().unwrap();
        let is_list = ["/servicenetworks", "/services", "/targetgroups"].contains(&path);
        let is_tags = seen.path.starts_with("/tags/");
        if is_list || is_tags || seen.path.contains("associations?") { account(seen) } else { missing() }
    })
    .await;
    let look = Lattice::new(&wire.sdk()).look(&spec()).await.unwrap();
    assert_eq!((look.service, look.target_groups.len(), look.listeners.len()), (None, 0, 0));
}

#[tokio::test]
async fn a_forbidden_look_is_refused_and_says_what_was_asked() {
    let wire = wired(|_| (403, json!({ "__type": "AccessDeniedException", "message": "no" }))).await;
    let error = Lattice::new(&wire.sdk()).look(&spec()).await.unwrap_err();
    assert_eq!((error.kind, error.word()), (Kind::Denied, Word::Refused));
    assert!(chain(&error).starts_with("vpc-lattice:List"), "{}", chain(&error));
}

fn tags() -> BTreeMap<String, String> {
    BTreeMap::from([("espalier:stack".to_owned(), "payments".to_owned())])
}

async fn sent(action: Action) -> (String, Value) {
    let wire = wired(|_| (200, json!({}))).await;
    Lattice::new(&wire.sdk()).take(&action).await.unwrap().unwrap();
    let seen = wire.seen().remove(0);
    (seen.what(), seen.json())
}

fn group_of(document: &Value) -> Action {
    let spec = spec_of(document);
    let health_check = match spec.health_check {
        HealthCheck::Off => None,
        HealthCheck::On(check) => Some(check),
    };
    let kind = spec.targets.select.kind();
    let want = TargetGroupWant { name: "g".into(), vpc_id: VpcId::parse(VPC).unwrap(), kind, port: 8443, health_check };
    Action::CreateTargetGroup { want, tags: tags(), token: "t".into() }
}

#[tokio::test]
async fn a_target_group_is_tcp_without_a_protocol_version_and_says_that_its_check_is_off() {
    let (what, body) = sent(group_of(&document())).await;
    assert_eq!(what, "POST /targetgroups");
    assert_eq!(
        body,
        json!({ "name": "g", "type": "INSTANCE", "clientToken": "t", "tags": { "espalier:stack": "payments" },
                "config": { "protocol": "TCP", "port": 8443, "vpcIdentifier": VPC, "healthCheck": { "enabled": false } } })
    );
}

#[tokio::test]
async fn a_group_of_addresses_says_of_which_family_and_takes_them_as_they_are_written() {
    for (address, family) in [("10.0.1.5", "IPV4"), ("fd12::5", "IPV6")] {
        let mut document = document();
        document["targets"]["select"] = json!({ "addresses": [{ "address": address }] });
        let (_, body) = sent(group_of(&document)).await;
        assert_eq!((&body["type"], &body["config"]["ipAddressType"]), (&json!("IP"), &json!(family)));
        let targets = vec![TargetId::parse(address).unwrap()];
        let register =
            Action::RegisterTargets { target_group_id: "tg-1".into(), name: "g".into(), targets, port: 8443 };
        let (_, body) = sent(register).await;
        assert_eq!(body, json!({ "targets": [{ "id": address, "port": 8443 }] }));
    }
}

#[tokio::test]
async fn a_health_check_sends_what_the_spec_says_and_an_update_resets_what_it_does_not() {
    let mut document = document();
    document["healthCheck"] = json!({ "enabled": true, "path": "/healthz", "intervalSeconds": 15 });
    let (_, body) = sent(group_of(&document)).await;
    let check = json!({ "enabled": true, "protocol": "HTTPS", "protocolVersion": "HTTP1", "path": "/healthz",
                        "healthCheckIntervalSeconds": 15, "matcher": { "httpCode": "200" } });
    assert_eq!(body["config"]["healthCheck"], check);

    let HealthCheck::On(on) = spec_of(&document).health_check else { panic!("it is on") };
    let update =
        |health_check| Action::UpdateHealthCheck { target_group_id: "tg-1".into(), name: "g".into(), health_check };
    let (what, body) = sent(update(Some(on))).await;
    assert_eq!(what, "PATCH /targetgroups/tg-1");
    let check = &body["healthCheck"];
    assert_eq!((&check["healthCheckIntervalSeconds"], &check["unhealthyThresholdCount"]), (&json!(15), &json!(0)));
    let (_, body) = sent(update(None)).await;
    assert_eq!(body, json!({ "healthCheck": { "enabled": false } }));
}

#[tokio::test]
async fn each_creation_carries_its_token_and_its_tags() {
    let create = Action::CreateService {
        name: "payments".into(),
        custom_domain_name: HostName::parse("pay.example.com").unwrap(),
        idle_timeout_seconds: Some(90),
        tags: tags(),
        token: "t".into(),
    };
    let (what, body) = sent(create).await;
    assert_eq!(what, "POST /services");
    assert_eq!(
        body,
        json!({ "name": "payments", "customDomainName": "pay.example.com", "idleTimeoutSeconds": 90, "clientToken": "t",
                "tags": { "espalier:stack": "payments" } })
    );

    let listener = Action::CreateListener {
        service_id: "svc-1".into(),
        name: "payments-tls".into(),
        port: 443,
        target_group_id: "tg-1".into(),
        tags: tags(),
        token: "t".into(),
    };
    let (what, body) = sent(listener).await;
    assert_eq!(what, "POST /services/svc-1/listeners");
    let forward = json!({ "targetGroups": [{ "targetGroupIdentifier": "tg-1", "weight": 100 }] });
    assert_eq!((&body["protocol"], &body["defaultAction"]["forward"]), (&json!("TLS_PASSTHROUGH"), &forward));

    let shift = Action::UpdateListener {
        service_id: "svc-1".into(),
        listener_id: "listener-1".into(),
        name: "payments-tls".into(),
        forwards: vec![("tg-1".into(), 90), ("tg-2".into(), 10)],
    };
    let (what, body) = sent(shift).await;
    assert_eq!(what, "PATCH /services/svc-1/listeners/listener-1");
    let both =
        json!([{ "targetGroupIdentifier": "tg-1", "weight": 90 }, { "targetGroupIdentifier": "tg-2", "weight": 10 }]);
    assert_eq!(body["defaultAction"]["forward"]["targetGroups"], both);

    let put = Action::PutAuthPolicy { service_id: "svc-1".into(), name: "payments".into(), policy: "{}".into() };
    assert_eq!(sent(put).await, ("PUT /authpolicy/svc-1".to_owned(), json!({ "policy": "{}" })));
    let require = Action::RequireAuth { service_id: "svc-1".into(), name: "payments".into() };
    assert_eq!(sent(require).await, ("PATCH /services/svc-1".to_owned(), json!({ "authType": "AWS_IAM" })));

    let groups = BTreeSet::from([SecurityGroupId::parse(GROUP).unwrap()]);
    let associate = Action::AssociateVpc {
        network_id: "sn-1".into(),
        vpc_id: VpcId::parse(CONSUMER).unwrap(),
        security_group_ids: groups,
        tags: tags(),
        token: "t".into(),
    };
    let (what, body) = sent(associate).await;
    assert_eq!(what, "POST /servicenetworkvpcassociations");
    assert_eq!((&body["vpcIdentifier"], &body["securityGroupIds"]), (&json!(CONSUMER), &json!([GROUP])));
}

fn register(count: usize) -> Action {
    let targets = (0..count).map(|n| TargetId::parse(format!("i-{n:017x}")).unwrap()).collect();
    Action::RegisterTargets { target_group_id: "tg-1".into(), name: "g".into(), targets, port: 8443 }
}

#[tokio::test]
async fn targets_are_registered_a_hundred_at_a_time() {
    let wire = wired(|_| (200, json!({ "successful": [], "unsuccessful": [] }))).await;
    Lattice::new(&wire.sdk()).take(&register(201)).await.unwrap().unwrap();
    let sizes: Vec<usize> = wire.seen().iter().map(|seen| seen.json()["targets"].as_array().unwrap().len()).collect();
    assert_eq!(sizes, [100, 100, 1]);
    assert_eq!(wire.seen()[2].json()["targets"][0], json!({ "id": format!("i-{:017x}", 200), "port": 8443 }));
}

#[tokio::test]
async fn a_partial_failure_is_an_error_although_the_answer_is_200() {
    let unsuccessful = json!([
        { "id": "i-1", "port": 8443, "failureCode": "TargetNotRunning", "failureMessage": "it is stopped" },
        { "id": "i-2", "port": 8443 },
    ]);
    let wire = wired(move |_| (200, json!({ "successful": [], "unsuccessful": unsuccessful }))).await;
    let error = Lattice::new(&wire.sdk()).take(&register(2)).await.unwrap().unwrap_err();
    assert_eq!(error.word(), Word::Refused);
    let expected = "vpc-lattice:RegisterTargets failed: TargetNotRunning: i-1 (TargetNotRunning: it is \
                    stopped), i-2 (VPC Lattice gives no reason)";
    assert_eq!(chain(&error), expected);
}

/// What is listed while it is being deleted, and has no tags any more when they are asked for, is not somebody else's: a
/// teardown would take it for a stranger that keeps the network in use.
#[tokio::test]
async fn what_is_gone_before_its_tags_are_read_is_not_taken_for_a_strangers() {
    for gone in ["sn-ours", "svc-1", "listener-1", "tg-old", "snva-1", "snsa-1"] {
        let wire = wired(move |seen| {
            let is_tags = seen.path.starts_with("/tags/") && seen.path.ends_with(gone);
            if is_tags { missing() } else { account(seen) }
        })
        .await;
        let look = Lattice::new(&wire.sdk()).look(&spec()).await.unwrap();
        assert!(!format!("{look:?}").contains(&format!("Owned {{ id: \"{gone}\"")), "{gone}: {look:#?}");
    }
}

#[tokio::test]
async fn deleting_what_is_gone_is_done_and_what_is_in_use_is_a_conflict() {
    let deletions = [
        Action::DeleteServiceAssociation { association_id: "snsa-1".into() },
        Action::DeleteListener { service_id: "svc-1".into(), listener_id: "listener-1".into() },
        Action::DeleteService { service_id: "svc-1".into(), name: "payments".into() },
        Action::DeleteTargetGroup { target_group_id: "tg-1".into(), name: "g".into() },
        Action::DeleteVpcAssociation { association_id: "snva-1".into(), vpc_id: VpcId::parse(VPC).unwrap() },
        Action::DeleteServiceNetwork { network_id: "sn-1".into(), name: "n".into() },
    ];
    for action in deletions {
        let wire = wired(|_| missing()).await;
        Lattice::new(&wire.sdk()).take(&action).await.unwrap().unwrap();
        assert!(wire.asked()[0].starts_with("DELETE /"), "{:?}", wire.asked());

        let in_use =
            json!({ "__type": "ConflictException", "message": "in use", "resourceId": "x", "resourceType": "Y" });
        let wire = wired(move |_| (409, in_use.clone())).await;
        let error = Lattice::new(&wire.sdk()).take(&action).await.unwrap().unwrap_err();
        assert_eq!((error.kind, error.word().is_passing()), (Kind::Conflict, true), "{action}");
    }
}

#[tokio::test]
async fn what_is_not_lattices_is_left_alone() {
    let wire = wired(|_| missing()).await;
    let action =
        Action::RevokeIngress { security_group_id: SecurityGroupId::parse(GROUP).unwrap(), rule_id: "sgr-1".into() };
    assert!(Lattice::new(&wire.sdk()).take(&action).await.is_none());
    assert!(wire.seen().is_empty());
}
