//! What VPC Lattice refuses, over HTTP. Each test names the documented rules it exercises; the last one sees to it that
//! no rule of the stand-in goes without a test.

#![allow(clippy::unwrap_used, reason = "helpers of tests are tests too")]

mod lattice_world;

use espalier_lab::lattice::rules::Rule;
use lattice_world::{CLIENTS_VPC, DOOR_GROUP, TARGETS_GROUP, TARGETS_VPC, World, at_once, id, network, until};
use serde_json::{Value, json};
use std::time::Duration;

const DOMAIN: Option<&str> = Some("api.example.com");

/// UG tls-listeners, Considerations: a custom domain name; only a forward action; only to TCP groups; only the default
/// rule. UG target-groups: TCP groups with TLS listeners only.
#[tokio::test]
async fn tls_passthrough_is_as_narrow_as_documented() {
    let world = World::new().await;
    let (bare, group) = (world.service("bare", None).await, world.group("tcp").await);
    world.listen(&bare, &group, 8443).await.refused(Rule::TlsNeedsCustomDomain);

    let service = world.service("api", DOMAIN).await;
    let path = format!("/services/{service}/listeners");
    let fixed = json!({"name": "tls", "protocol": "TLS_PASSTHROUGH", "port": 8443, "defaultAction": {"fixedResponse": {"statusCode": 404}}});
    world.post(&path, fixed).await.refused(Rule::TlsOnlyForwards);
    let unknown = format!("tg-{}", "0".repeat(17));
    let fault = world.listen(&service, &unknown, 8443).await.refused(Rule::ForwardUnknownGroup);
    assert_eq!(fault["resourceId"], unknown);
    let https = id(world.post("/targetgroups", world.group_body("https", "HTTPS")).await.ok());
    world.listen(&service, &https, 8443).await.refused(Rule::TlsOnlyTcpGroups);
    world.post(&path, world.listener_body("http", "HTTP", 8080, &group)).await.refused(Rule::TcpOnlyTlsListeners);

    let listener = id(world.listen(&service, &group, 8443).await.ok());
    let rule = json!({"name": "extra", "priority": 1, "match": {"httpMatch": {"method": "GET"}},
        "action": {"fixedResponse": {"statusCode": 404}}});
    world.post(&format!("{path}/{listener}/rules"), rule.clone()).await.refused(Rule::TlsOnlyDefaultRule);
    let rules = world.get(&format!("{path}/{listener}/rules")).await;
    assert_eq!((rules["items"].as_array().unwrap().len(), &rules["items"][0]["isDefault"]), (1, &json!(true)));
    let plain = id(world.post(&path, world.listener_body("http", "HTTP", 8080, &https)).await.ok());
    world.post(&format!("{path}/{plain}/rules"), rule).await.refused(Rule::NoRules);
    let update = json!({"defaultAction": {"fixedResponse": {"statusCode": 404}}});
    world.call("PATCH", &format!("{path}/{listener}"), update).await.refused(Rule::TlsOnlyForwards);
}

/// API PutAuthPolicy: one line; UG quotas: 10 KB; UG auth-policies: a resource policy; in force with `AWS_IAM` only.
#[tokio::test]
async fn an_auth_policy_is_one_line_of_a_resource_policy() {
    let world = World::new().await;
    let service = world.service("api", DOMAIN).await;
    let path = format!("/authpolicy/{service}");
    world.call("GET", &path, json!({})).await.refused(Rule::Missing);
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": "*", "Action": "vpc-lattice-svcs:Invoke", "Resource": "*"}]});
    let put = async |text: String| world.call("PUT", &path, json!({"policy": text})).await;
    put(serde_json::to_string_pretty(&policy).unwrap()).await.refused(Rule::PolicyLines);
    put(policy.to_string().replace("Invoke", &"x".repeat(10_240))).await.refused(Rule::PolicySize);
    for text in ["{}", "nonsense", r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}"#] {
        put(text.to_owned()).await.refused(Rule::PolicyMalformed);
    }
    assert_eq!(put(policy.to_string()).await.ok()["state"], "Inactive");
    world.call("PATCH", &format!("/services/{service}"), json!({"authType": "AWS_IAM"})).await.ok();
    assert_eq!(world.get(&path).await, json!({"policy": policy.to_string(), "state": "Active"}));
    world.call("DELETE", &path, json!({})).await.ok();
    world.call("GET", &path, json!({})).await.refused(Rule::Missing);
}

/// API CreateAccessLogSubscription: the destination types; DeleteService: subscriptions go with their service.
#[tokio::test]
async fn access_logs_go_to_a_bucket_a_log_group_or_a_stream() {
    let world = World::new().await;
    let service = world.service("api", DOMAIN).await;
    let to = |arn: &str| json!({"resourceIdentifier": service, "destinationArn": arn});
    let path = "/accesslogsubscriptions";
    world.post(path, to("arn:aws:sqs:eu-west-1:111122223333:queue")).await.refused(Rule::LogDestination);
    let unknown =
        json!({"resourceIdentifier": format!("svc-{}", "0".repeat(17)), "destinationArn": "arn:aws:s3:::access-logs"});
    world.post(path, unknown).await.refused(Rule::Missing);
    let first = id(world.post(path, to("arn:aws:s3:::access-logs")).await.ok());
    let other = json!({"destinationArn": "arn:aws:logs:eu-west-1:111122223333:log-group:access"});
    world.call("PATCH", &format!("{path}/{first}"), other.clone()).await.ok();
    let list = world.get(&format!("{path}?resourceIdentifier={service}")).await;
    assert_eq!(
        (&list["items"][0]["id"], &list["items"][0]["destinationArn"]),
        (&json!(first), &other["destinationArn"])
    );
    world.call("DELETE", &format!("{path}/{first}"), json!({})).await.ok();
    world.call("DELETE", &format!("{path}/{first}"), json!({})).await.refused(Rule::Missing);
}

/// UG listeners; API FixedResponseAction; UG quotas: listeners per service, target groups per service; API CreateListener
/// name; API CreateTargetGroup: one service per group.
#[tokio::test]
async fn listeners_are_few_and_each_has_its_port() {
    let world = World::new().await;
    let service = world.service("api", DOMAIN).await;
    let (group, path) = (world.group("tcp").await, format!("/services/{service}/listeners"));
    let first = world.listen(&service, &group, 8443).await.ok();
    let body = world.listener_body("other", "TLS_PASSTHROUGH", 8443, &group);
    let fault = world.post(&path, body).await.refused(Rule::PortTaken);
    assert_eq!(fault["resourceId"], first["id"]);
    world.post(&path, world.listener_body("tls-8443", "TLS_PASSTHROUGH", 8444, &group)).await.refused(Rule::NameTaken);
    let teapot = json!({"name": "web", "protocol": "HTTP", "defaultAction": {"fixedResponse": {"statusCode": 418}}});
    world.post(&path, teapot).await.refused(Rule::FixedResponseStatus);
    world.listen(&service, &group, 8444).await.ok();
    world.listen(&service, &group, 8445).await.refused(Rule::ListenerQuota);

    let twice = json!({"defaultAction": {"forward": {"targetGroups": [
        {"targetGroupIdentifier": group, "weight": 1}, {"targetGroupIdentifier": group, "weight": 2}]}}});
    let listener = first["id"].as_str().unwrap();
    world.call("PATCH", &format!("{path}/{listener}"), twice).await.refused(Rule::ForwardTwice);
    let mut groups = Vec::new();
    for n in 0..10 {
        groups.push(json!({"targetGroupIdentifier": world.group(&format!("more-{n}")).await}));
    }
    let many = json!({"defaultAction": {"forward": {"targetGroups": groups}}});
    world.call("PATCH", &format!("{path}/{listener}"), many).await.refused(Rule::GroupsPerServiceQuota);

    let rival = world.service("rival", Some("rival.example.com")).await;
    world.listen(&rival, &group, 8443).await.refused(Rule::GroupServesAnother);
}

/// API HealthCheckConfig: HTTP and HTTPS, ranges; UG tls-listeners: protocol and version explicit for TCP; not for ALB.
#[tokio::test]
async fn health_checks_of_tcp_groups_are_off_or_explicit_and_never_tcp() {
    let world = World::new().await;
    let with = |check: Value| {
        let mut body = world.group_body("checked", "TCP");
        body["config"]["healthCheck"] = check;
        body
    };
    let fault = world
        .post("/targetgroups", with(json!({"enabled": true, "protocol": "TCP", "protocolVersion": "HTTP1"})))
        .await;
    let fault = fault.refused(Rule::HealthCheckProtocol);
    assert_eq!(fault["fieldList"][0]["name"], "healthCheck.protocol");
    let off = with(json!({"enabled": false, "protocol": "TCP"}));
    world.post("/targetgroups", off).await.refused(Rule::HealthCheckProtocol);
    world.post("/targetgroups", with(json!({"enabled": true}))).await.refused(Rule::TcpHealthCheckExplicit);
    let hasty =
        json!({"enabled": true, "protocol": "HTTPS", "protocolVersion": "HTTP1", "healthCheckIntervalSeconds": 1});
    world.post("/targetgroups", with(hasty)).await.refused(Rule::HealthCheckRange);
    let alb = json!({"name": "alb", "type": "ALB", "config": {"protocol": "TCP", "port": 8443, "vpcIdentifier": TARGETS_VPC,
        "healthCheck": {"enabled": true, "protocol": "HTTPS", "protocolVersion": "HTTP1"}}});
    world.post("/targetgroups", alb).await.refused(Rule::HealthCheckNotForAlb);

    let group = world.group("plain").await;
    let read = world.get(&format!("/targetgroups/{group}")).await;
    assert_eq!(read["config"]["healthCheck"], json!({"enabled": false}));
    let update = json!({"healthCheck": {"enabled": true, "protocol": "TCP", "protocolVersion": "HTTP1"}});
    world.call("PATCH", &format!("/targetgroups/{group}"), update).await.refused(Rule::HealthCheckProtocol);
    let https =
        json!({"healthCheck": {"enabled": true, "protocol": "HTTPS", "protocolVersion": "HTTP1", "path": "/healthz"}});
    let updated = world.call("PATCH", &format!("/targetgroups/{group}"), https).await.ok();
    assert_eq!(updated["config"]["healthCheck"]["healthyThresholdCount"], 5);
}

/// API TargetGroupConfig; UG tls-listeners: no Lambda targets; k8s controller pull request 643: no protocol version.
#[tokio::test]
async fn target_group_configuration_is_checked_as_a_whole() {
    let world = World::new().await;
    let group = |kind: &str, config: Value| json!({"name": "odd", "type": kind, "config": config});
    let post = |kind: &str, config: Value| world.post("/targetgroups", group(kind, config));
    post("LAMBDA", json!({"protocol": "TCP"})).await.refused(Rule::TcpNoLambda);
    post("LAMBDA", json!({"port": 443})).await.refused(Rule::LambdaConfig);
    post("INSTANCE", json!({"protocol": "TCP", "port": 443})).await.refused(Rule::GroupConfig);
    let versioned = json!({"protocol": "TCP", "port": 443, "vpcIdentifier": TARGETS_VPC, "protocolVersion": "HTTP1"});
    post("INSTANCE", versioned).await.refused(Rule::TcpNoProtocolVersion);
    let family = json!({"protocol": "TCP", "port": 443, "vpcIdentifier": TARGETS_VPC, "ipAddressType": "IPV4"});
    post("INSTANCE", family).await.refused(Rule::AddressTypeOnlyForIp);
    let nowhere = json!({"protocol": "TCP", "port": 443, "vpcIdentifier": "vpc-00000000000000000"});
    post("INSTANCE", nowhere).await.refused(Rule::UnknownVpc);
}

/// model: lengths, patterns, enumerations, required members, ranges; UG quotas; API clientToken; API errors.
#[tokio::test]
async fn names_and_limits_are_the_model_s() {
    let world = World::new().await;
    for bad in ["ab", "svc-abc", "-ab", "ab-", "a--b", "Upper", &"a".repeat(41)] {
        let fault = world.post("/services", json!({"name": bad})).await.refused(Rule::Shape);
        assert_eq!(
            (&fault["reason"], &fault["fieldList"][0]["name"]),
            (&json!("fieldValidationFailed"), &json!("name"))
        );
    }
    let mut body = world.group_body("tg-mine", "TCP");
    world.post("/targetgroups", body.clone()).await.refused(Rule::Shape);
    body["name"] = "fine".into();
    body["config"]["port"] = 0.into();
    world.post("/targetgroups", body).await.refused(Rule::Shape);
    world.post("/services", json!({"name": "slow", "idleTimeoutSeconds": 601})).await.refused(Rule::Shape);
    world.post("/services", json!({})).await.refused(Rule::Shape);
    let fault = world.call("GET", "/services/api-service", Value::Null).await.refused(Rule::Shape);
    assert_eq!(fault["fieldList"][0]["name"], "serviceIdentifier");
    world.call("GET", "/servicenetworks?maxResults=101", Value::Null).await.refused(Rule::Shape);

    let service = world.service("api", DOMAIN).await;
    world.post("/services", json!({"name": "api"})).await.refused(Rule::NameTaken);
    world.group("tcp").await;
    world.post("/targetgroups", world.group_body("tcp", "TCP")).await.refused(Rule::NameTaken);
    world.network("net").await;
    world.post("/servicenetworks", json!({"name": "net"})).await.refused(Rule::NameTaken);
    let gone = format!("svc-{}", "0".repeat(17));
    let fault = world.call("GET", &format!("/services/{gone}"), Value::Null).await.refused(Rule::Missing);
    assert_eq!((&fault["resourceType"], &fault["resourceId"]), (&json!("SERVICE"), &json!(gone)));

    // What is create-only is no member of the update (aws-facts 1.5).
    let path = format!("/services/{service}");
    world.call("PATCH", &path, json!({"customDomainName": "b.example.com"})).await.refused(Rule::NotAMember);
    world.call("GET", "/services?color=green", Value::Null).await.refused(Rule::NotAMember);
}

/// UG quotas: networks and target groups per Region, targets per group, services (the lab's own address range first).
#[tokio::test]
async fn quotas_end_somewhere() {
    let world = World::new().await;
    for n in 0..50 {
        world.network(&format!("net-{n}")).await;
    }
    world.post("/servicenetworks", json!({"name": "one-more"})).await.refused(Rule::NetworkQuota);
    for n in 0..253 {
        world.service(&format!("service-{n}"), None).await;
    }
    world.post("/services", json!({"name": "one-more"})).await.refused(Rule::ServiceQuota);
    for n in 0..500 {
        world.group(&format!("group-{n}")).await;
    }
    world.post("/targetgroups", world.group_body("one-more", "TCP")).await.refused(Rule::GroupQuota);
}

/// UG quotas: targets per target group 1,000; API RegisterTargets: 1 to 100 per call.
#[tokio::test]
async fn a_target_group_holds_a_thousand_targets_taken_a_hundred_at_a_time() {
    let world = World::new().await;
    let group = world.group("tcp").await;
    let path = format!("/targetgroups/{group}/registertargets");
    let ports =
        |range: std::ops::Range<u32>| -> Value { range.map(|port| json!({"id": "i-1", "port": port})).collect() };
    world.post(&path, json!({"targets": ports(1..102)})).await.refused(Rule::Shape);
    world.post(&path, json!({"targets": []})).await.refused(Rule::Shape);
    for hundred in 0..10 {
        let from = 1 + hundred * 100;
        world.post(&path, json!({"targets": ports(from..from + 100)})).await.ok();
    }
    world.post(&path, json!({"targets": ports(2000..2001)})).await.refused(Rule::TargetQuota);
}

/// UG quotas: 500 service associations and 500 VPC associations per service network.
#[tokio::test]
async fn a_network_holds_five_hundred_vpcs() {
    let mut ec2 = network(8443);
    for n in 0..501 {
        ec2.vpcs.insert(format!("vpc-{n:017}"), vec!["10.0.0.0/16".parse().unwrap()]);
    }
    let world = World::on(ec2, at_once()).await;
    let network = world.network("net").await;
    for n in 0..500 {
        world.associate_vpc(&network, &format!("vpc-{n:017}"), &[]).await.ok();
    }
    world.associate_vpc(&network, &format!("vpc-{:017}", 500), &[]).await.refused(Rule::VpcAssociationQuota);
}

/// API DeleteService, DeleteServiceNetwork, DeleteTargetGroup, DeleteServiceNetwork*Association: not while in use or in
/// progress. The k8s controller deregisters before it deletes a group.
#[tokio::test]
async fn nothing_in_use_is_deleted() {
    let options = espalier_lab::lattice::Options { delete_delay: Duration::from_millis(150), ..at_once() };
    let world = World::with(options).await;
    let (service, group, network) =
        (world.service("api", DOMAIN).await, world.group("tcp").await, world.network("net").await);
    let listener = id(world.listen(&service, &group, 8443).await.ok());
    world.register(&group, &["i-1"]).await;
    let served = id(world.associate_service(&network, &service).await.ok());
    let client = id(world.associate_vpc(&network, CLIENTS_VPC, &[DOOR_GROUP]).await.ok());

    let fault = world.delete(&format!("/services/{service}")).await.refused(Rule::ServiceAssociated);
    assert_eq!((&fault["resourceType"], &fault["resourceId"]), (&json!("SERVICE"), &json!(service)));
    world.delete(&format!("/servicenetworks/{network}")).await.refused(Rule::NetworkInUse);
    world.delete(&format!("/targetgroups/{group}")).await.refused(Rule::GroupInUse);

    let gone = world.delete(&format!("/servicenetworkserviceassociations/{served}")).await.ok();
    assert_eq!(gone["status"], "DELETE_IN_PROGRESS");
    // Still in the way while it is going, and not to be made again.
    world.delete(&format!("/services/{service}")).await.refused(Rule::ServiceAssociated);
    world.associate_service(&network, &service).await.refused(Rule::AlreadyAssociated);
    let path = format!("/servicenetworkserviceassociations/{served}");
    until(|| world.call("GET", &path, Value::Null), |said| said.status == 404).await.refused(Rule::Missing);
    world.delete(&format!("/servicenetworkvpcassociations/{client}")).await.ok();
    world.delete(&format!("/servicenetworks/{network}")).await.refused(Rule::NetworkInUse);

    assert_eq!(world.delete(&format!("/services/{service}/listeners/{listener}")).await.status, 204);
    world.delete(&format!("/targetgroups/{group}")).await.refused(Rule::GroupHasTargets);
    world.post(&format!("/targetgroups/{group}/deregistertargets"), json!({"targets": [{"id": "i-1"}]})).await.ok();
    assert_eq!(world.delete(&format!("/targetgroups/{group}")).await.ok()["status"], "DELETE_IN_PROGRESS");
    assert_eq!(world.delete(&format!("/services/{service}")).await.ok()["status"], "DELETE_IN_PROGRESS");
    let path = format!("/servicenetworkvpcassociations/{client}");
    until(|| world.call("GET", &path, Value::Null), |said| said.status == 404).await.refused(Rule::Missing);
    assert_eq!(world.delete(&format!("/servicenetworks/{network}")).await.status, 204);
    until(|| async { world.lattice.resources() }, |left| left.is_empty()).await;
    assert!(world.lattice.resources().is_empty(), "{:?}", world.lattice.resources());
}

/// API status members: CREATE_IN_PROGRESS, UPDATE_IN_PROGRESS, ACTIVE; what is not active cannot be used (k8s controller
/// retries registration while CREATE_IN_PROGRESS).
#[tokio::test]
async fn creation_takes_time_and_what_is_not_active_is_of_no_use() {
    let delay = Duration::from_millis(300);
    let options = espalier_lab::lattice::Options { create_delay: delay, update_delay: delay, ..at_once() };
    let world = World::with(options).await;
    let created = world.post("/services", json!({"name": "api", "customDomainName": "api.example.com"})).await.ok();
    assert_eq!((&created["status"], &created["dnsEntry"]), (&json!("CREATE_IN_PROGRESS"), &Value::Null));
    let (service, group, network) = (id(created), world.group("tcp").await, world.network("net").await);
    world.listen(&service, &group, 8443).await.refused(Rule::ServiceNotActive);
    world.associate_service(&network, &service).await.refused(Rule::ServiceNotActive);
    world.delete(&format!("/services/{service}")).await.refused(Rule::ServiceNotActive);
    let path = format!("/targetgroups/{group}/registertargets");
    world.post(&path, json!({"targets": [{"id": "i-1"}]})).await.refused(Rule::GroupNotActive);
    world.delete(&format!("/targetgroups/{group}")).await.refused(Rule::GroupNotActive);
    let client = id(world.associate_vpc(&network, CLIENTS_VPC, &[DOOR_GROUP]).await.ok());
    let client = format!("/servicenetworkvpcassociations/{client}");
    world.delete(&client).await.refused(Rule::AssociationBusy);

    let service = format!("/services/{service}");
    let read = until(|| world.get(&service), |read| read["status"] == "ACTIVE").await;
    let name = read["dnsEntry"]["domainName"].as_str().unwrap();
    assert!(name.starts_with("api-0") && name.ends_with(".vpc-lattice-svcs.eu-west-1.on.aws"), "{name}");
    assert!(read["dnsEntry"]["hostedZoneId"].as_str().unwrap().starts_with('Z'));
    until(|| world.get(&client), |read| read["status"] == "ACTIVE").await;
    let updated = world.call("PATCH", &client, json!({"securityGroupIds": [DOOR_GROUP]})).await.ok();
    assert_eq!(updated["status"], "UPDATE_IN_PROGRESS");
    world.call("PATCH", &client, json!({"securityGroupIds": [DOOR_GROUP]})).await.refused(Rule::AssociationBusy);
}

/// UG service-network-associations: one VPC, one network; API Update…VpcAssociation: at least one group stays, at most
/// five; API List…Associations: a filter; UG service-custom-domain-name: unique inside a network.
#[tokio::test]
async fn associations_are_unique_and_keep_their_security_groups() {
    let world = World::new().await;
    let (network, other) = (world.network("net").await, world.network("other").await);
    world.associate_vpc(&network, "vpc-00000000000000000", &[]).await.refused(Rule::UnknownVpc);
    world.associate_vpc(&network, CLIENTS_VPC, &[TARGETS_GROUP]).await.refused(Rule::UnknownSecurityGroup);
    let six = vec![DOOR_GROUP; 6];
    world.associate_vpc(&network, CLIENTS_VPC, &six).await.refused(Rule::Shape);
    let client = id(world.associate_vpc(&network, CLIENTS_VPC, &[DOOR_GROUP]).await.ok());
    world.associate_vpc(&other, CLIENTS_VPC, &[]).await.refused(Rule::VpcAlreadyAssociated);
    let path = format!("/servicenetworkvpcassociations/{client}");
    world.call("PATCH", &path, json!({"securityGroupIds": []})).await.refused(Rule::SecurityGroupsStay);
    assert_eq!(world.get(&path).await["securityGroupIds"], json!([DOOR_GROUP]));
    world.call("GET", "/servicenetworkvpcassociations", Value::Null).await.refused(Rule::ListNeedsFilter);
    world.call("GET", "/servicenetworkserviceassociations", Value::Null).await.refused(Rule::ListNeedsFilter);
    let listed = world.get(&format!("/servicenetworkvpcassociations?vpcIdentifier={CLIENTS_VPC}")).await;
    assert_eq!(listed["items"][0]["id"], client);

    let (service, twin) = (world.service("api", DOMAIN).await, world.service("twin", DOMAIN).await);
    world.associate_service(&network, &service).await.ok();
    world.associate_service(&network, &service).await.refused(Rule::AlreadyAssociated);
    world.associate_service(&network, &twin).await.refused(Rule::DomainTaken);
    world.associate_service(&other, &twin).await.ok();
    let listed = world.get(&format!("/servicenetworkserviceassociations?serviceIdentifier={service}")).await;
    assert_eq!(listed["items"][0]["serviceNetworkId"], network);
    assert_eq!(listed["items"][0]["customDomainName"], "api.example.com");
}

/// API RegisterTargets and UG register-targets: what cannot be registered is listed as unsuccessful inside a 200.
#[tokio::test]
async fn registering_fails_in_part() {
    let world = World::new().await;
    let group = world.group("tcp").await;
    let answer = world.register(&group, &["i-1", "i-missing", "i-stopped", "i-elsewhere"]).await;
    assert_eq!(answer["successful"], json!([{"id": "i-1", "port": 8443}]));
    let codes: Vec<&str> =
        answer["unsuccessful"].as_array().unwrap().iter().map(|f| f["failureCode"].as_str().unwrap()).collect();
    let expected = [Rule::TargetUnknown, Rule::TargetNotRunning, Rule::TargetElsewhere].map(Rule::code);
    assert_eq!(codes, expected);
    let path = format!("/targetgroups/{group}/deregistertargets");
    let answer = world.post(&path, json!({"targets": [{"id": "i-1", "port": 1}, {"id": "i-1"}]})).await.ok();
    assert_eq!(answer["unsuccessful"][0]["failureCode"], Rule::TargetNotRegistered.code());
    assert_eq!(answer["successful"][0]["port"], 8443);

    let addresses = json!({"name": "addresses", "type": "IP", "config": {"protocol": "TCP", "port": 8443, "vpcIdentifier": TARGETS_VPC}});
    let addresses = id(world.post("/targetgroups", addresses).await.ok());
    let answer = world.register(&addresses, &["127.0.1.11", "10.0.0.1", "fd00::1", "i-1"]).await;
    assert_eq!(answer["successful"], json!([{"id": "127.0.1.11", "port": 8443}]));
    let failed = answer["unsuccessful"].as_array().unwrap().iter();
    let codes: Vec<&str> = failed.map(|f| f["failureCode"].as_str().unwrap()).collect();
    assert_eq!(codes, [Rule::TargetElsewhere, Rule::TargetFamily, Rule::TargetUnknown].map(Rule::code));
}

/// API TargetSummary: UNUSED until a listener forwards to the group, INITIAL, then UNAVAILABLE for good while health
/// checks are off; DRAINING on the way out.
#[tokio::test]
async fn targets_are_unused_then_unavailable_and_never_healthy_without_checks() {
    let delay = Duration::from_millis(250);
    let options = espalier_lab::lattice::Options { register_delay: delay, draining: delay, ..at_once() };
    let world = World::with(options).await;
    let (service, group) = (world.service("api", DOMAIN).await, world.group("tcp").await);
    world.register(&group, &["i-1", "i-2"]).await;
    let only = |status: &'static str| move |seen: &Vec<(String, String)>| seen.iter().all(|(_, s)| s == status);
    assert!(only("UNUSED")(&world.statuses(&group).await));
    tokio::time::sleep(delay).await;
    assert!(only("UNUSED")(&world.statuses(&group).await));
    let listener = id(world.listen(&service, &group, 8443).await.ok());
    assert!(only("INITIAL")(&world.statuses(&group).await));
    let seen = until(|| world.statuses(&group), only("UNAVAILABLE")).await;
    assert!(only("UNAVAILABLE")(&seen), "{seen:?}");

    world.post(&format!("/targetgroups/{group}/deregistertargets"), json!({"targets": [{"id": "i-1"}]})).await.ok();
    let seen = world.statuses(&group).await;
    assert_eq!(seen[0], ("i-1".to_owned(), "DRAINING".to_owned()));
    let seen = until(|| world.statuses(&group), |seen| seen.len() == 1).await;
    assert_eq!(seen, [("i-2".to_owned(), "UNAVAILABLE".to_owned())]);
    world.delete(&format!("/services/{service}/listeners/{listener}")).await;
    assert!(only("UNUSED")(&world.statuses(&group).await));
}

/// API clientToken: a retry with the same parameters does nothing, one with others fails.
#[tokio::test]
async fn a_client_token_is_used_once() {
    let world = World::new().await;
    let body = json!({"name": "api", "clientToken": "t-1"});
    let first = world.post("/services", body.clone()).await.ok();
    assert_eq!(world.post("/services", body).await.ok()["id"], first["id"]);
    world.post("/services", json!({"name": "other", "clientToken": "t-1"})).await.refused(Rule::TokenReused);
    world.post("/services", json!({"name": "api", "clientToken": "t-2"})).await.refused(Rule::NameTaken);
    // Another operation has its own tokens.
    world.post("/servicenetworks", json!({"name": "net", "clientToken": "t-1"})).await.ok();
    world.delete(&format!("/services/{}", id(first.clone()))).await.ok();
    let again = world.post("/services", json!({"name": "api", "clientToken": "t-1"})).await.ok();
    assert_ne!(again["id"], first["id"]);
}

/// API List operations: maxResults and nextToken.
#[tokio::test]
async fn lists_come_in_pages() {
    let world = World::new().await;
    for n in 0..12 {
        world.network(&format!("net-{n}")).await;
    }
    let (mut names, mut path) = (Vec::new(), "/servicenetworks".to_owned());
    loop {
        let page = world.get(&path).await;
        let items = page["items"].as_array().unwrap();
        assert!(items.len() <= 5);
        names.extend(items.iter().map(|item| item["name"].as_str().unwrap().to_owned()));
        let Some(next) = page["nextToken"].as_str() else { break };
        path = format!("/servicenetworks?nextToken={next}");
    }
    assert_eq!(names.len(), 12);
    assert_eq!(world.get("/servicenetworks?maxResults=100").await["items"].as_array().unwrap().len(), 12);
    world.call("GET", "/servicenetworks?nextToken=5", Value::Null).await.refused(Rule::PageToken);
}

/// API TagResource, UntagResource, ListTagsForResource; model TagMap.
#[tokio::test]
async fn tags_follow_the_resource() {
    let world = World::new().await;
    let body = json!({"name": "api", "tags": {"espalier:stack": "api"}});
    let arn = world.post("/services", body).await.ok()["arn"].as_str().unwrap().to_owned();
    let path = format!("/tags/{}", arn.replace('/', "%2F").replace(':', "%3A"));
    assert_eq!(world.get(&path).await["tags"], json!({"espalier:stack": "api"}));
    world.post(&path, json!({"tags": {"a": "1", "b": "2"}})).await.ok();
    world.delete(&format!("{path}?tagKeys=a&tagKeys=espalier%3Astack")).await.ok();
    assert_eq!(world.get(&path).await["tags"], json!({"b": "2"}));
    assert_eq!(world.lattice.resources()[&arn]["b"], "2");
    world.post(&path, json!({"tags": {"aws:x": "1"}})).await.refused(Rule::ReservedTag);
    world.post("/services", json!({"name": "other", "tags": {"aws:x": "1"}})).await.refused(Rule::ReservedTag);
    let gone = path.replace("svc-", "svc-x");
    world.post(&gone, json!({"tags": {"a": "1"}})).await.refused(Rule::Missing);
}

/// API CommonErrors and ThrottlingException; reasons of ValidationException.
#[tokio::test]
async fn requests_are_signed_whole_and_not_too_many() {
    let world = World::new().await;
    world.raw("GET", "/services", String::new(), None).await.refused(Rule::Unsigned);
    let other = "AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=0";
    world.raw("GET", "/services", String::new(), Some(other)).await.refused(Rule::Unsigned);
    let right = other.replace("/ec2/", "/vpc-lattice/");
    let fault = world.raw("POST", "/services", "{\"name\":".into(), Some(&right)).await.refused(Rule::NotJson);
    assert_eq!(fault["reason"], "cannotParse");
    let fault = world.call("GET", "/resourcegateways", Value::Null).await.refused(Rule::UnknownOperation);
    assert_eq!(fault["reason"], "unknownOperation");

    world.lattice.throttle(Some("ListServices"), 2, 3);
    world.get("/servicenetworks").await;
    for _ in 0..2 {
        let said = world.call("GET", "/services", Value::Null).await;
        assert_eq!(said.retry_after.as_deref(), Some("3"));
        said.refused(Rule::Throttled);
    }
    world.get("/services").await;
    assert_eq!(world.lattice.api_calls()["ListServices"], 5);
}

/// What no test above can reach: 500 service associations need more services than the lab has addresses, and a fixed
/// network is always known.
const UNREACHED: [Rule; 2] = [Rule::ServiceAssociationQuota, Rule::NotKnown];

#[test]
fn every_rule_has_a_test() {
    let source = include_str!("lattice_refusals.rs");
    for rule in Rule::ALL.iter().filter(|rule| !UNREACHED.contains(rule)) {
        assert!(source.contains(&format!("Rule::{rule:?}")), "{rule:?}: {}", rule.documented().source);
    }
}
