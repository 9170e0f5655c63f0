//! Which private hosted zones a look takes for the stack's own, and what it finds in them, on the wire.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

#[path = "../../../shared/aws/tests/wire/mod.rs"]
mod wire;

use espalier_domain::spec::AllowedDomains;
use espalier_edge::{Request, Trigger};
use espalier_reconcile::{Limits, SystemClock};
use provision::Provision;
use serde_json::{Value, json};
use time::OffsetDateTime;
use wire::{Seen, Wire};

const XML: &str = "https://route53.amazonaws.com/doc/2013-04-01/";

/// To be torn down: then every zone is looked into, whatever there is of VPC Lattice.
fn spec() -> Value {
    json!({
        "version": 1, "stack": "payments", "owner": "o@example.com", "state": "absent", "deletionProtection": false,
        "network": { "vpcId": "vpc-0123456789abcdef0", "subnetIds": ["subnet-0123456789abcdef0"],
                     "consumers": [{ "vpcId": "vpc-0123456789abcdef1", "securityGroupIds": ["sg-0123456789abcdef0"] }] },
        "service": { "domainName": "pay.example.com", "port": 443,
                     "dns": { "privateZone": { "name": "pay.example.com" } } },
        "targets": { "port": 8443, "securityGroupId": "sg-0123456789abcdef0", "select": { "tag": { "key": "a", "value": "b" } } },
        "certificate": { "dnsNames": ["pay.example.com"], "validityHours": 168, "renewBeforeHours": 56 },
        "prober": { "securityGroupId": "sg-0123456789abcdef1" },
    })
}

fn zone(id: &str, comment: &str) -> String {
    format!(
        "<HostedZone><Id>/hostedzone/{id}</Id><Name>pay.example.com.</Name><CallerReference>r</CallerReference>\
         <Config><Comment>{comment}</Comment><PrivateZone>true</PrivateZone></Config></HostedZone>"
    )
}

fn set(name: &str, kind: &str, alias: Option<&str>) -> String {
    let rest = match alias {
        Some(alias) => format!(
            "<AliasTarget><HostedZoneId>Z9</HostedZoneId><DNSName>{alias}.</DNSName>\
             <EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget>"
        ),
        None => {
            "<TTL>60</TTL><ResourceRecords><ResourceRecord><Value>x</Value></ResourceRecord></ResourceRecords>".into()
        }
    };
    format!("<ResourceRecordSet><Name>{name}.</Name><Type>{kind}</Type>{rest}</ResourceRecordSet>")
}

/// ZA with our record, ZB of another stack, ZC taken over since it was listed, ZD with somebody else's record, ZE empty, ZF
/// of the stack of this name in another Region, ZG of one of no Region.
fn route53(path: &str) -> (u16, String) {
    let apex = set("pay.example.com", "NS", None) + &set("pay.example.com", "SOA", None);
    let ours = "payments-0abc.7d67968.vpc-lattice-svcs.eu-west-1.on.aws";
    let inside = match path.split('?').next().unwrap().trim_start_matches("/2013-04-01/hostedzone") {
        "" => {
            let ours = "payments in eu-west-1";
            let comments = [ours, "payments-2 in eu-west-1", ours, ours, ours, "payments in eu-west-2", "payments"];
            let all = ["ZA", "ZB", "ZC", "ZD", "ZE", "ZF", "ZG"].into_iter().zip(comments);
            let all: String = all.map(|(id, stack)| zone(id, &format!("espalier:{stack}"))).collect();
            return (
                200,
                format!(
                    "<ListHostedZonesResponse xmlns=\"{XML}\"><HostedZones>{all}</HostedZones><Marker></Marker>\
                 <IsTruncated>false</IsTruncated><MaxItems>100</MaxItems></ListHostedZonesResponse>"
                ),
            );
        }
        "/ZC" => zone("ZC", "mine now"),
        "/ZA/rrset" => set("pay.example.com", "A", Some(ours)) + &apex,
        "/ZD/rrset" => apex + &set("www.pay.example.com", "A", None),
        "/ZE/rrset" => apex,
        id if id.ends_with("/rrset") => panic!("{id} is nobody's business"),
        id => zone(id.trim_start_matches('/'), "espalier:payments in eu-west-1"),
    };
    let (name, inside) = match inside.starts_with("<HostedZone>") {
        true => ("GetHostedZone", inside),
        false => (
            "ListResourceRecordSets",
            format!(
                "<ResourceRecordSets>{inside}</ResourceRecordSets><IsTruncated>false</IsTruncated><MaxItems>300</MaxItems>"
            ),
        ),
    };
    (200, format!("<{name}Response xmlns=\"{XML}\">{inside}</{name}Response>"))
}

fn answer(seen: &Seen) -> (u16, String) {
    if seen.path.starts_with("/2013-04-01") {
        return route53(&seen.path);
    }
    if let Some(action) = seen.body.split('&').find_map(|field| field.strip_prefix("Action=")) {
        return (
            200,
            format!("<{action}Response xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"></{action}Response>"),
        );
    }
    match seen.what().as_str() {
        "GetParameter" => (200, json!({ "Parameter": { "Name": "x", "Value": spec().to_string() } }).to_string()),
        "Query" => (200, json!({ "Items": [], "Count": 0 }).to_string()),
        _ => (200, json!({ "items": [] }).to_string()),
    }
}

#[tokio::test]
async fn a_zone_is_ours_by_its_comment_and_goes_when_nothing_else_is_in_it() {
    let wire = Wire::answering(answer).await;
    let allowed = AllowedDomains::parse("example.com").unwrap();
    let provision = Provision::new(&wire.sdk(), allowed, "ledger", SystemClock);
    let request = Trigger::parse(json!({ "stack": "payments", "mode": "plan" })).unwrap();
    let limits = Limits::until(OffsetDateTime::now_utc() + time::Duration::minutes(1));
    let answer = provision.answer(request, limits).await.unwrap();
    let steps: Vec<&str> = answer.outcome.steps.iter().map(|step| step.action.as_str()).collect();
    assert_eq!(steps, ["- Record pay.example.com in ZA", "- HostedZone pay.example.com (ZE)"], "{:?}", answer.outcome);
    let [block] = answer.outcome.blocks.as_slice() else { panic!("{:?}", answer.outcome.blocks) };
    assert!(block.because.contains("ZD") && block.because.contains("www.pay.example.com (A x)"), "{block}");
    let is_theirs = |path: &String| ["/ZB", "/ZF", "/ZG"].iter().any(|zone| path.contains(zone));
    assert!(!wire.asked().iter().any(is_theirs), "another stack's: {:?}", wire.asked());
}
