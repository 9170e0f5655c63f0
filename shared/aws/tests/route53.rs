//! Route 53 on the wire: XML both ways.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

mod wire;

use espalier_aws::error::Kind;
use espalier_aws::route53::{Alias, Route53};
use espalier_domain::id::{HostName, HostedZoneId, VpcId};
use espalier_domain::network::Action;
use serde_json::json;
use wire::Wire;

const ZONE: &str = "Z0123456789ABCDEFGHIJ";

fn zone() -> HostedZoneId {
    HostedZoneId::parse(ZONE).unwrap()
}

fn name() -> HostName {
    HostName::parse("api.example.com").unwrap()
}

fn alias() -> Alias {
    Alias { domain_name: "api-svc.vpc-lattice-svcs.eu-west-1.on.aws".into(), hosted_zone_id: "ZLATTICE1".into() }
}

fn page(sets: &str, more: &str) -> String {
    format!(
        "<?xml version=\"1.0\"?><ListResourceRecordSetsResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
         <ResourceRecordSets>{sets}</ResourceRecordSets>{more}<MaxItems>100</MaxItems></ListResourceRecordSetsResponse>"
    )
}

const END: &str = "<IsTruncated>false</IsTruncated>";

fn cname(name: &str) -> String {
    format!(
        "<ResourceRecordSet><Name>{name}.</Name><Type>CNAME</Type><TTL>60</TTL><ResourceRecords>\
         <ResourceRecord><Value>elsewhere.example.net</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>"
    )
}

fn alias_set(name: &str, identifier: &str) -> String {
    format!(
        "<ResourceRecordSet><Name>{name}.</Name><Type>A</Type>{identifier}<AliasTarget><HostedZoneId>ZLATTICE1</HostedZoneId>\
         <DNSName>API-svc.vpc-lattice-svcs.eu-west-1.on.aws.</DNSName><EvaluateTargetHealth>false</EvaluateTargetHealth>\
         </AliasTarget></ResourceRecordSet>"
    )
}

#[tokio::test]
async fn only_records_at_exactly_the_name_are_seen() {
    let sets = alias_set("api.example.com", "") + &cname("api2.example.com");
    let wire = Wire::table(vec![("GET /2013-04-01/hostedzone/Z", 200, json!(page(&sets, END)))]).await;
    let records = Route53::new(&wire.sdk()).records(&zone(), &name()).await.unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].kind.as_str(), records[0].alias.clone()), ("A", Some(alias())));
    assert!(wire.asked()[0].contains("name=api.example.com"), "{:?}", wire.asked());

    let wire = Wire::table(vec![("GET", 200, json!(page(&cname("api2.example.com"), END)))]).await;
    assert_eq!(Route53::new(&wire.sdk()).records(&zone(), &name()).await.unwrap(), []);
}

#[tokio::test]
async fn a_foreign_record_is_shown_and_a_routing_policy_is_not_taken_for_ours() {
    let sets = cname("api.example.com") + &alias_set("api.example.com", "<SetIdentifier>blue</SetIdentifier>");
    let wire = Wire::table(vec![("GET", 200, json!(page(&sets, END)))]).await;
    let records = Route53::new(&wire.sdk()).records(&zone(), &name()).await.unwrap();
    assert_eq!(records[0].shown, "CNAME elsewhere.example.net");
    assert_eq!((records[1].kind.as_str(), &records[1].alias), ("A", &None));
}

#[tokio::test]
async fn the_list_goes_on_while_the_name_does() {
    let wire = Wire::answering(|seen| {
        let more = "<IsTruncated>true</IsTruncated><NextRecordName>api.example.com.</NextRecordName>\
                    <NextRecordType>CNAME</NextRecordType>";
        let first = !seen.path.contains("type=CNAME");
        (200, if first { page(&alias_set("api.example.com", ""), more) } else { page(&cname("api.example.com"), END) })
    })
    .await;
    let records = Route53::new(&wire.sdk()).records(&zone(), &name()).await.unwrap();
    assert_eq!(records.iter().map(|r| r.kind.as_str()).collect::<Vec<_>>(), ["A", "CNAME"]);
}

#[tokio::test]
async fn where_nothing_was_an_alias_is_created_without_health_evaluation() {
    let wire = Wire::table(vec![("POST", 200, json!(done("ChangeResourceRecordSets")))]).await;
    Route53::new(&wire.sdk()).write_alias(&zone(), &name(), None, &alias()).await.unwrap();
    let body = &wire.seen()[0].body;
    assert!(!body.contains("UPSERT") && !body.contains("DELETE"), "{body}");
    for part in [
        "<Action>CREATE</Action>",
        "<Name>api.example.com</Name><Type>A</Type>",
        "<HostedZoneId>ZLATTICE1</HostedZoneId>",
        "<EvaluateTargetHealth>false</EvaluateTargetHealth>",
    ] {
        assert!(body.contains(part), "{part} in {body}");
    }
}

#[tokio::test]
async fn in_the_place_of_a_former_alias_of_ours_one_batch_takes_it_and_makes_the_other() {
    let new = Alias { domain_name: "api-new.vpc-lattice-svcs.eu-west-1.on.aws".into(), ..alias() };
    let there = alias_set("api.example.com", "");
    let changed = done("ChangeResourceRecordSets");
    let wire = Wire::table(vec![("GET", 200, json!(page(&there, END))), ("POST", 200, json!(changed))]).await;
    Route53::new(&wire.sdk()).write_alias(&zone(), &name(), Some(&alias()), &new).await.unwrap();
    let body = &wire.seen()[1].body;
    let at = |part: &str| body.find(part).unwrap_or_else(|| panic!("{part} in {body}"));
    assert!(at("<Action>DELETE</Action>") < at("API-svc") && at("API-svc") < at("<Action>CREATE</Action>"), "{body}");
    assert!(at("<Action>CREATE</Action>") < at("api-new") && !body.contains("UPSERT"), "{body}");

    // By now it is the wanted one, or somebody else's: then nothing is sent.
    for (set, expected) in [
        (there.replace("API-svc", "api-new"), None),
        (there.replace("API-svc", "theirs"), Some(Kind::Conflict)),
        (alias_set("api.example.com", "<SetIdentifier>blue</SetIdentifier>"), Some(Kind::Conflict)),
    ] {
        let wire = Wire::table(vec![("GET", 200, json!(page(&set, END)))]).await;
        let result = Route53::new(&wire.sdk()).write_alias(&zone(), &name(), Some(&alias()), &new).await;
        assert_eq!((result.err().map(|error| error.kind), wire.asked().len()), (expected, 1), "{set}");
    }
}

#[tokio::test]
async fn a_record_that_was_made_since_the_look_is_a_conflict() {
    for (message, expected) in [
        ("[Tried to create resource record set [name='x.', type='A'] but it already exists]", Kind::Conflict),
        ("[RRSet with DNS name x. is not permitted in zone]", Kind::Invalid),
    ] {
        let body = format!(
            "<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Error><Type>Sender</Type>\
             <Code>InvalidChangeBatch</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        let wire = Wire::table(vec![("POST", 400, json!(body))]).await;
        let result = Route53::new(&wire.sdk()).write_alias(&zone(), &name(), None, &alias()).await;
        assert_eq!(result.unwrap_err().kind, expected, "{message}");
    }
}

#[tokio::test]
async fn deleting_takes_what_is_there_and_tells_gone_from_changed() {
    for (message, expected) in [
        ("[Tried to delete resource record set [name='x', type='A'] but it was not found]", None),
        ("[Tried to delete ... but the values provided do not match the current values]", Some(Kind::Conflict)),
        ("[RRSet with DNS name x. is not permitted in zone]", Some(Kind::Invalid)),
    ] {
        let body = format!(
            "<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Error><Type>Sender</Type>\
             <Code>InvalidChangeBatch</Code><Message>{message}</Message></Error></ErrorResponse>"
        );
        // Somebody switched the evaluation on: the deletion has to say so, or Route 53 refuses it.
        let there = alias_set("api.example.com", "").replace("false<", "true<");
        let wire = Wire::table(vec![("GET", 200, json!(page(&there, END))), ("POST", 400, json!(body))]).await;
        let result = Route53::new(&wire.sdk()).delete_alias(&zone(), &name(), &alias()).await;
        assert_eq!(result.err().map(|error| error.kind), expected, "{message}");
        let sent = &wire.seen()[1].body;
        assert!(sent.contains("DELETE") && sent.contains("<EvaluateTargetHealth>true<"), "{sent}");
    }
}

#[tokio::test]
async fn deleting_leaves_a_record_that_points_elsewhere() {
    let wire = Wire::table(vec![("GET", 200, json!(page(&cname("api.example.com"), END)))]).await;
    Route53::new(&wire.sdk()).delete_alias(&zone(), &name(), &alias()).await.unwrap();

    let other = alias_set("api.example.com", "").replace("API-svc", "other-svc");
    let wire = Wire::table(vec![("GET", 200, json!(page(&other, END)))]).await;
    let error = Route53::new(&wire.sdk()).delete_alias(&zone(), &name(), &alias()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Conflict);
    assert_eq!(wire.asked().len(), 1, "nothing was sent");
}

#[tokio::test]
async fn a_private_zone_lists_its_vpcs() {
    let body = format!(
        "<GetHostedZoneResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><HostedZone><Id>/hostedzone/{ZONE}</Id>\
         <Name>example.com.</Name><CallerReference>r</CallerReference><Config><Comment>c</Comment><PrivateZone>true\
         </PrivateZone></Config></HostedZone><VPCs><VPC><VPCRegion>eu-west-1</VPCRegion><VPCId>vpc-0a</VPCId></VPC>\
         <VPC><VPCRegion>eu-west-2</VPCRegion><VPCId>vpc-0b</VPCId></VPC></VPCs></GetHostedZoneResponse>"
    );
    let wire = Wire::table(vec![("GET", 200, json!(body))]).await;
    let found = Route53::new(&wire.sdk()).zone(&zone()).await.unwrap().unwrap();
    assert_eq!((found.name.as_str(), found.private, found.comment.as_str()), ("example.com", true, "c"));
    assert_eq!(found.vpcs, ["vpc-0a"], "in another Region nobody can see whose it is");

    let gone = "<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Error><Type>Sender</Type>\
                <Code>NoSuchHostedZone</Code><Message>none</Message></Error></ErrorResponse>";
    let wire = Wire::table(vec![("GET", 404, json!(gone))]).await;
    assert_eq!(Route53::new(&wire.sdk()).zone(&zone()).await.unwrap(), None);
}

#[tokio::test]
async fn zones_are_found_by_vpc_and_name() {
    let zones = |zones: &str, more: &str| {
        format!(
            "<?xml version=\"1.0\"?><ListHostedZonesByVPCResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
             <HostedZoneSummaries>{zones}</HostedZoneSummaries><MaxItems>100</MaxItems>{more}</ListHostedZonesByVPCResponse>"
        )
    };
    let zone = |id: &str, name: &str, owner: &str| {
        format!(
            "<HostedZoneSummary><HostedZoneId>{id}</HostedZoneId><Name>{name}.</Name><Owner>{owner}</Owner></HostedZoneSummary>"
        )
    };
    let mine = "<OwningAccount>111122223333</OwningAccount>";
    let theirs = "<OwningService>efs.amazonaws.com</OwningService>";
    let wire = Wire::answering(move |seen: &wire::Seen| {
        let body = match (seen.path.contains("vpcid=vpc-0123456789abcdef0"), seen.path.contains("nexttoken=more")) {
            (true, false) => zones(&zone("ZB", "example.com", mine), "<NextToken>more</NextToken>"),
            (true, true) => zones(&(zone("ZC", "example.com", theirs) + &zone("ZD", "sub.example.com", mine)), ""),
            (false, _) => zones(&(zone("ZB", "Example.com", mine) + &zone("ZA", "example.com", mine)), ""),
        };
        (200, body)
    })
    .await;
    let vpcs = ["vpc-0123456789abcdef0", "vpc-0123456789abcdef1"].map(|id| VpcId::parse(id).unwrap());
    let name = HostName::parse("example.com").unwrap();
    let found = Route53::new(&wire.sdk()).zones_of(&vpcs.iter().collect(), &name).await.unwrap();
    assert_eq!(found.iter().map(HostedZoneId::as_str).collect::<Vec<_>>(), ["ZA", "ZB"]);
    assert!(wire.asked().iter().all(|path| path.contains("vpcregion=eu-west-1")), "{:?}", wire.asked());
    assert_eq!(wire.asked().len(), 3);
}

#[tokio::test]
async fn a_validation_record_is_seen_and_written_as_a_cname() {
    let at = "_a1.api.example.com";
    let tagged = |identifier: &str| cname(at).replace("<TTL>", &format!("{identifier}<TTL>"));
    let weighted = tagged("<SetIdentifier>one</SetIdentifier><Weight>1</Weight>");
    for (sets, seen) in [
        (cname("_a1.api.example.com.other"), None),
        (cname(at), Some(Some("elsewhere.example.net".to_owned()))),
        (weighted.clone(), Some(None)),
        (weighted.clone() + &weighted, Some(None)),
        (alias_set(at, ""), Some(None)),
    ] {
        let wire = Wire::table(vec![("GET", 200, json!(page(&sets, END)))]).await;
        assert_eq!(Route53::new(&wire.sdk()).cname(&zone(), at).await.unwrap(), seen, "{sets}");
    }
    let done = "<?xml version=\"1.0\"?><ChangeResourceRecordSetsResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\">\
                <ChangeInfo><Id>/change/C1</Id><Status>PENDING</Status><SubmittedAt>2026-11-21T00:00:00Z</SubmittedAt></ChangeInfo>\
                </ChangeResourceRecordSetsResponse>";
    let wire = Wire::table(vec![("POST", 200, json!(done))]).await;
    Route53::new(&wire.sdk()).upsert_cname(&zone(), at, "_b2.acm-validations.aws").await.unwrap();
    let sent = wire.seen()[0].body.clone();
    for part in [
        "<Action>UPSERT</Action>",
        "<Name>_a1.api.example.com</Name><Type>CNAME</Type><TTL>300</TTL>",
        "<Value>_b2.acm-validations.aws</Value>",
    ] {
        assert!(sent.contains(part), "{sent}");
    }
}
const VPC: &str = "vpc-0123456789abcdef0";

fn refused(code: &str, status: u16) -> (u16, String) {
    let body = format!(
        "<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Error><Type>Sender</Type>\
         <Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    );
    (status, body)
}

fn done(operation: &str) -> String {
    format!(
        "<{operation}Response xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><ChangeInfo><Id>/change/C1</Id>\
         <Status>PENDING</Status><SubmittedAt>2026-11-21T00:00:00Z</SubmittedAt></ChangeInfo></{operation}Response>"
    )
}

fn create() -> Action {
    let vpc_id = VpcId::parse(VPC).unwrap();
    Action::CreatePrivateZone {
        name: name(),
        vpc_id,
        comment: "espalier:payments in eu-west-1".into(),
        token: "t".into(),
    }
}

#[tokio::test]
async fn a_zone_is_made_private_with_its_comment_and_its_first_vpc() {
    let made = done("CreateHostedZone").replace(
        "<ChangeInfo>",
        "<HostedZone><Id>/hostedzone/Z1</Id><Name>api.example.com.</Name><CallerReference>t</CallerReference></HostedZone>\
         <DelegationSet><NameServers></NameServers></DelegationSet><ChangeInfo>",
    );
    let wire = Wire::answering(move |_| (201, made.clone())).await;
    Route53::new(&wire.sdk()).take(&create()).await.unwrap().unwrap();
    let seen = &wire.seen()[0];
    assert_eq!(seen.what(), "POST /2013-04-01/hostedzone");
    for part in [
        "<Name>api.example.com</Name>",
        &format!("<VPCRegion>eu-west-1</VPCRegion><VPCId>{VPC}</VPCId>"),
        "<CallerReference>t</CallerReference>",
        "<Comment>espalier:payments in eu-west-1</Comment>",
        "<PrivateZone>true</PrivateZone>",
    ] {
        assert!(seen.body.contains(part), "{part} in {}", seen.body);
    }
}

#[tokio::test]
async fn each_refusal_is_done_or_a_conflict_or_a_quota() {
    let (hosted_zone_id, vpc_id) = (zone(), VpcId::parse(VPC).unwrap());
    let associate = Action::AssociateZone { hosted_zone_id: zone(), vpc_id: vpc_id.clone() };
    let disassociate = Action::DisassociateZone { hosted_zone_id, vpc_id };
    let delete = Action::DeletePrivateZone { hosted_zone_id: zone(), name: "api.example.com".into() };
    for (action, code, status, expected) in [
        (&create(), "HostedZoneAlreadyExists", 409, None),
        (&create(), "ConflictingDomainExists", 400, Some(Kind::Conflict)),
        (&create(), "TooManyHostedZones", 400, Some(Kind::Quota)),
        (&create(), "InvalidVPCId", 400, Some(Kind::Invalid)),
        (&associate, "ConflictingDomainExists", 400, Some(Kind::Conflict)),
        (&associate, "LimitsExceeded", 400, Some(Kind::Quota)),
        (&associate, "NoSuchHostedZone", 404, Some(Kind::NotFound)),
        (&disassociate, "LastVPCAssociation", 400, Some(Kind::Conflict)),
        (&disassociate, "VPCAssociationNotFound", 404, None),
        (&delete, "HostedZoneNotEmpty", 400, Some(Kind::Conflict)),
        (&delete, "NoSuchHostedZone", 404, None),
    ] {
        let wire = Wire::answering(move |_| refused(code, status)).await;
        let result = Route53::new(&wire.sdk()).take(action).await.unwrap();
        assert_eq!(result.err().map(|error| error.kind), expected, "{action}: {code}");
    }
}

#[tokio::test]
async fn a_vpc_comes_and_goes_and_a_zone_is_deleted() {
    let (hosted_zone_id, vpc_id) = (zone(), VpcId::parse(VPC).unwrap());
    let comes = Action::AssociateZone { hosted_zone_id: hosted_zone_id.clone(), vpc_id: vpc_id.clone() };
    let goes = Action::DisassociateZone { hosted_zone_id: hosted_zone_id.clone(), vpc_id };
    let delete = Action::DeletePrivateZone { hosted_zone_id, name: "api.example.com".into() };
    for (action, operation, method, path) in [
        (comes, "AssociateVPCWithHostedZone", "POST", "/associatevpc"),
        (goes, "DisassociateVPCFromHostedZone", "POST", "/disassociatevpc"),
        (delete, "DeleteHostedZone", "DELETE", ""),
    ] {
        let wire = Wire::answering(move |_| (200, done(operation))).await;
        Route53::new(&wire.sdk()).take(&action).await.unwrap().unwrap();
        let seen = &wire.seen()[0];
        let expected = format!("{method} /2013-04-01/hostedzone/{ZONE}{path}");
        assert_eq!(seen.what().split('?').next().unwrap(), expected);
        let names_it = seen.body.contains(&format!("<VPCRegion>eu-west-1</VPCRegion><VPCId>{VPC}</VPCId>"));
        assert_eq!(names_it, method == "POST", "{}", seen.body);
    }
}

#[tokio::test]
async fn zones_of_ours_are_known_by_their_comment() {
    let one = |id: &str, comment: &str, private: bool| {
        format!(
            "<HostedZone><Id>/hostedzone/{id}</Id><Name>x.</Name><CallerReference>r</CallerReference><Config>\
             <Comment>{comment}</Comment><PrivateZone>{private}</PrivateZone></Config></HostedZone>"
        )
    };
    let page = |zones: &str, more: &str| {
        format!(
            "<ListHostedZonesResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><HostedZones>{zones}\
             </HostedZones><Marker></Marker>{more}<MaxItems>100</MaxItems></ListHostedZonesResponse>"
        )
    };
    let wire = Wire::answering(move |seen| {
        let more = "<IsTruncated>true</IsTruncated><NextMarker>m</NextMarker>";
        let first = one("ZC", "espalier:payments", true) + &one("ZB", "espalier:payments", false);
        let second = one("ZA", "espalier:payments", true) + &one("ZD", "espalier:payments-2", true);
        (200, if seen.path.contains("marker=m") { page(&second, END) } else { page(&first, more) })
    })
    .await;
    let found = Route53::new(&wire.sdk()).zones_with("espalier:payments").await.unwrap();
    assert_eq!(found.iter().map(HostedZoneId::as_str).collect::<Vec<_>>(), ["ZA", "ZC"]);
    assert!(wire.asked().iter().all(|path| path.contains("hostedzonetype=PrivateHostedZone")), "{:?}", wire.asked());
}

#[tokio::test]
async fn what_somebody_else_has_in_a_zone_is_found_and_what_route_53_made_is_not() {
    let made = |kind: &str| cname("example.com").replace("CNAME", kind);
    let usual = made("NS") + &made("SOA") + &alias_set("api.example.com", "");
    let text = cname("api.example.com").replace("CNAME", "TXT");
    // A delegation further down is no record of the zone's own making.
    let delegated = cname("sub.example.com").replace("CNAME", "NS");
    for (sets, expected) in [
        (usual.clone(), None),
        (usual.clone() + &text, Some("a record api.example.com (TXT elsewhere.example.net)")),
        (usual.clone() + &delegated, Some("a record sub.example.com (NS elsewhere.example.net)")),
    ] {
        let wire = Wire::table(vec![("GET", 200, json!(page(&sets, END)))]).await;
        let found = Route53::new(&wire.sdk()).stranger(&zone(), "example.com", &name()).await.unwrap();
        assert_eq!(found.as_deref(), expected);
    }
    let wire = Wire::answering(move |seen| {
        let more = "<IsTruncated>true</IsTruncated><NextRecordName>z.example.com.</NextRecordName>\
                    <NextRecordType>A</NextRecordType>";
        let second = seen.path.contains("name=z.example.com");
        (200, if second { page(&cname("z.example.com"), END) } else { page(&usual, more) })
    })
    .await;
    let found = Route53::new(&wire.sdk()).stranger(&zone(), "example.com", &name()).await.unwrap();
    assert!(found.is_some_and(|what| what.contains("z.example.com")), "on the second page");
}
