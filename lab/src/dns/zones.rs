//! Route 53's hosted zones: read over its REST API, looked up in memory.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use roxmltree::{Document, Node};

use crate::fabric::lock;

/// How long the zones are used before they are read again.
const FRESH_FOR: Duration = Duration::from_millis(250);
/// An answer may rest on zones up to this age while they are read again: much less than any record's time to live, and who
/// asks does not wait for a busy emulator.
const USABLE_FOR: Duration = Duration::from_secs(2);
/// Aliases and CNAMEs followed for one name.
const HOPS_MAX: u32 = 8;

/// Route 53 could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ZonesError {
    /// The request failed or was refused.
    #[error("Route 53 {path} failed")]
    Call {
        /// What was asked for.
        path: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not XML.
    #[error("Route 53 {path} answered with XML that cannot be read")]
    Xml {
        /// What was asked for.
        path: String,
        /// Why.
        #[source]
        source: roxmltree::Error,
    },
}

/// The records of every zone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Zones {
    /// Zone name without a trailing dot -> its record sets.
    pub zones: BTreeMap<String, Vec<RecordSet>>,
}

/// One record set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordSet {
    /// The name without a trailing dot, in lower case.
    pub name: String,
    /// `A`, `CNAME`, ...
    pub kind: String,
    /// The name it is an alias of.
    pub alias: Option<String>,
    /// Its values, when it is no alias.
    pub values: Vec<String>,
}

/// The values of every CNAME record in the public zones of `route53` (an endpoint), by name: what ACM may see. Names and
/// values are in lower case, without the trailing dot.
pub async fn public_cnames(route53: &str) -> Result<BTreeMap<String, String>, ZonesError> {
    let source = Source::new(route53);
    let zones = read(&source.call("/2013-04-01/hostedzone").await?, "hostedzone", read_public_zones)?;
    let mut found = BTreeMap::new();
    for id in zones {
        let path = format!("/2013-04-01/hostedzone/{id}/rrset");
        for record in read(&source.call(&path).await?, &path, read_records)? {
            if let ("CNAME", Some(value)) = (record.kind.as_str(), record.values.first()) {
                found.insert(record.name, plain(value));
            }
        }
    }
    Ok(found)
}

impl Zones {
    /// The addresses of a name: `None` when the name does not exist, empty when it has no IPv4 address.
    /// `generated` knows the names that are in no zone, VPC Lattice's.
    pub fn look_up(&self, name: &str, generated: &dyn Fn(&str) -> Option<Ipv4Addr>) -> Option<Vec<Ipv4Addr>> {
        self.follow(name, generated, HOPS_MAX)
    }

    fn follow(&self, name: &str, generated: &dyn Fn(&str) -> Option<Ipv4Addr>, hops: u32) -> Option<Vec<Ipv4Addr>> {
        if let Some(address) = generated(name) {
            return Some(vec![address]);
        }
        let inside = |zone: &str| name == zone || name.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.'));
        let zone = self.zones.iter().filter(|(zone, _)| inside(zone)).max_by_key(|(zone, _)| zone.len());
        let (_, records) = zone?;
        let mut found = records.iter().filter(|record| record.name == name).peekable();
        found.peek()?;
        let mut addresses = Vec::new();
        for record in found {
            let next = match (record.kind.as_str(), &record.alias) {
                ("A", Some(alias)) => Some(alias),
                ("A", None) => {
                    addresses.extend(record.values.iter().filter_map(|value| value.parse::<Ipv4Addr>().ok()));
                    None
                }
                ("CNAME", _) => record.values.first(),
                _ => None,
            };
            if let Some(next) = next.filter(|_| hops > 0) {
                let next = plain(next);
                addresses.extend(self.follow(&next, generated, hops - 1).unwrap_or_default());
            }
        }
        Some(addresses)
    }
}

/// Reads Route 53, at most four times a second.
#[derive(Debug)]
pub(super) struct Source {
    endpoint: String,
    http: reqwest::Client,
    held: Mutex<Option<(Instant, Arc<Zones>)>>,
    refresh: tokio::sync::Mutex<()>,
}

impl Source {
    pub(super) fn new(endpoint: &str) -> Self {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        Self { endpoint, http: reqwest::Client::new(), held: Mutex::default(), refresh: tokio::sync::Mutex::default() }
    }

    pub(super) async fn zones(self: &Arc<Self>) -> Result<Arc<Zones>, ZonesError> {
        if let Some(zones) = self.held_for(FRESH_FOR) {
            return Ok(zones);
        }
        let Some(zones) = self.held_for(USABLE_FOR) else { return self.read_again().await };
        let source = Arc::clone(self);
        // A failure is told to whoever next finds them too old.
        tokio::spawn(async move { source.read_again().await.map(drop) });
        Ok(zones)
    }

    fn held_for(&self, age: Duration) -> Option<Arc<Zones>> {
        let held = lock(&self.held).clone();
        held.filter(|(read, _)| read.elapsed() < age).map(|(_, zones)| zones)
    }

    async fn read_again(&self) -> Result<Arc<Zones>, ZonesError> {
        let _one_at_a_time = self.refresh.lock().await;
        if let Some(zones) = self.held_for(FRESH_FOR) {
            return Ok(zones);
        }
        let asked = Instant::now();
        let mut zones = Zones::default();
        for (id, name) in read(&self.call("/2013-04-01/hostedzone").await?, "hostedzone", read_zones)? {
            let path = format!("/2013-04-01/hostedzone/{id}/rrset");
            let records = read(&self.call(&path).await?, &path, read_records)?;
            // Zones of one name share what they hold here; Route 53 would choose by VPC.
            zones.zones.entry(name).or_default().extend(records);
        }
        let zones = Arc::new(zones);
        *lock(&self.held) = Some((asked, zones.clone()));
        Ok(zones)
    }

    async fn call(&self, path: &str) -> Result<String, ZonesError> {
        let request = self.http.get(format!("{}{path}", self.endpoint)).header(
            "authorization",
            "AWS4-HMAC-SHA256 Credential=lab/20260101/us-east-1/route53/aws4_request, SignedHeaders=host, Signature=0",
        );
        let failed = |source| ZonesError::Call { path: path.to_owned(), source };
        let answer = request.send().await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        answer.text().await.map_err(failed)
    }
}

fn read<T>(text: &str, path: &str, read: impl FnOnce(&Document<'_>) -> T) -> Result<T, ZonesError> {
    let document = Document::parse(text).map_err(|source| ZonesError::Xml { path: path.to_owned(), source })?;
    Ok(read(&document))
}

fn read_zones(document: &Document<'_>) -> Vec<(String, String)> {
    let zones = document.descendants().filter(|node| node.has_tag_name("HostedZone"));
    zones
        .filter_map(|zone| {
            let id = text(zone, "Id")?;
            Some((id.rsplit('/').next()?.to_owned(), plain(&text(zone, "Name")?)))
        })
        .collect()
}

fn read_public_zones(document: &Document<'_>) -> Vec<String> {
    let zones = document.descendants().filter(|node| node.has_tag_name("HostedZone"));
    let is_public = |zone: &Node<'_, '_>| {
        let private = zone.descendants().find(|node| node.has_tag_name("PrivateZone"));
        private.and_then(|node| node.text()).is_none_or(|text| text.trim() != "true")
    };
    zones.filter(is_public).filter_map(|zone| Some(text(zone, "Id")?.rsplit('/').next()?.to_owned())).collect()
}

fn read_records(document: &Document<'_>) -> Vec<RecordSet> {
    let sets = document.descendants().filter(|node| node.has_tag_name("ResourceRecordSet"));
    sets.filter_map(|set| {
        let alias = set.children().find(|node| node.has_tag_name("AliasTarget"));
        let values = set.descendants().filter(|node| node.has_tag_name("Value"));
        Some(RecordSet {
            name: plain(&text(set, "Name")?),
            kind: text(set, "Type")?,
            alias: alias.and_then(|alias| text(alias, "DNSName")).map(|name| plain(&name)),
            values: values.filter_map(|value| value.text()).map(str::to_owned).collect(),
        })
    })
    .collect()
}

fn text(node: Node<'_, '_>, name: &str) -> Option<String> {
    let child = node.children().find(|child| child.has_tag_name(name))?;
    child.text().map(|text| text.trim().to_owned())
}

/// Lower case, without the trailing dot.
fn plain(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDS: &str = r#"<ListResourceRecordSetsResponse xmlns="https://route53.amazonaws.com/doc/2013-04-01/">
      <ResourceRecordSets>
        <ResourceRecordSet><Name>API.example.com.</Name><Type>A</Type><AliasTarget><HostedZoneId>Z1</HostedZoneId>
          <DNSName>x.on.aws.</DNSName><EvaluateTargetHealth>false</EvaluateTargetHealth></AliasTarget></ResourceRecordSet>
        <ResourceRecordSet><Name>plain.example.com.</Name><Type>A</Type><TTL>60</TTL><ResourceRecords>
          <ResourceRecord><Value>127.0.1.11</Value></ResourceRecord>
          <ResourceRecord><Value>127.0.1.12</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>
        <ResourceRecordSet><Name>www.example.com.</Name><Type>CNAME</Type><TTL>60</TTL><ResourceRecords>
          <ResourceRecord><Value>api.example.com.</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>
        <ResourceRecordSet><Name>loop.example.com.</Name><Type>CNAME</Type><TTL>60</TTL><ResourceRecords>
          <ResourceRecord><Value>loop.example.com</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>
        <ResourceRecordSet><Name>text.example.com.</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords>
          <ResourceRecord><Value>"x"</Value></ResourceRecord></ResourceRecords></ResourceRecordSet>
      </ResourceRecordSets></ListResourceRecordSetsResponse>"#;

    fn look_up(name: &str) -> Option<Vec<String>> {
        let records = read(RECORDS, "rrset", read_records).unwrap();
        let zones = Zones { zones: BTreeMap::from([("example.com".to_owned(), records)]) };
        let lattice = |name: &str| (name == "x.on.aws").then_some(Ipv4Addr::new(127, 171, 0, 2));
        let found = zones.look_up(name, &lattice)?;
        Some(found.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn aliases_and_canonical_names_lead_to_the_generated_name() {
        for name in ["api.example.com", "www.example.com", "x.on.aws"] {
            assert_eq!(look_up(name), Some(vec!["127.171.0.2".to_owned()]), "{name}");
        }
    }

    #[test]
    fn plain_records_have_all_their_addresses() {
        assert_eq!(look_up("plain.example.com").unwrap(), ["127.0.1.11", "127.0.1.12"]);
    }

    #[test]
    fn a_missing_name_differs_from_one_without_an_address() {
        assert_eq!(look_up("nobody.example.com"), None);
        assert_eq!(look_up("example.org"), None);
        assert_eq!(look_up("notexample.com"), None);
        assert_eq!(look_up("text.example.com"), Some(vec![]));
        assert_eq!(look_up("loop.example.com"), Some(vec![]));
    }

    #[test]
    fn a_private_zone_is_not_public() {
        let zone = |id: &str, private: &str| {
            format!(
                "<HostedZone><Id>/hostedzone/{id}</Id><Name>example.com.</Name><Config><PrivateZone>{private}</PrivateZone></Config></HostedZone>"
            )
        };
        let text = format!("<R>{}{}</R>", zone("Z1", "true"), zone("Z2", "false"));
        assert_eq!(read(&text, "hostedzone", read_public_zones).unwrap(), ["Z2"]);
    }

    #[test]
    fn zones_lose_their_path_and_dot() {
        let text = "<R><HostedZones><HostedZone><Id>/hostedzone/Z01</Id><Name>example.com.</Name></HostedZone></HostedZones></R>";
        assert_eq!(read(text, "hostedzone", read_zones).unwrap(), [("Z01".to_owned(), "example.com".to_owned())]);
    }
}
