//! Reads EC2 through its Query API: form-encoded requests, XML answers.
//!
//! Only moto stands behind it, whose answers were read for this (moto 5.2.5). It routes by the credential scope of the
//! Authorization header and checks no signature, so the header is a fixed one.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::str::FromStr;

use roxmltree::{Document, Node};

use super::{Cidr, FabricError, Instance, Network, Peer, Permission, PrefixList, SecurityGroup, Subnet};

/// EC2 at one endpoint and in one region.
#[derive(Debug)]
pub struct Ec2 {
    endpoint: String,
    authorization: String,
    http: reqwest::Client,
}

impl Ec2 {
    /// No request is made yet.
    pub fn new(endpoint: &str, region: &str) -> Self {
        Self {
            endpoint: format!("{}/", endpoint.trim_end_matches('/')),
            authorization: format!(
                "AWS4-HMAC-SHA256 Credential=lab/20260101/{region}/ec2/aws4_request, SignedHeaders=host, Signature=0"
            ),
            http: reqwest::Client::new(),
        }
    }

    /// Everything admission depends on.
    pub async fn network(&self) -> Result<Network, FabricError> {
        let (vpcs, subnets, groups, instances, lists) = futures::try_join!(
            self.call("DescribeVpcs", &[]),
            self.call("DescribeSubnets", &[]),
            self.call("DescribeSecurityGroups", &[]),
            self.call("DescribeInstances", &[]),
            self.call("DescribeManagedPrefixLists", &[]),
        )?;
        let groups = parse("DescribeSecurityGroups", &groups, read_groups)?;
        let mut prefix_lists = parse("DescribeManagedPrefixLists", &lists, read_prefix_lists)?;
        // Only what some rule names: moto lists a dozen managed lists and each costs a request.
        prefix_lists.retain(|id, list| list.name.ends_with(".vpc-lattice") || is_named(&groups, id));
        for (id, list) in &mut prefix_lists {
            let entries = self.call("GetManagedPrefixListEntries", &[("PrefixListId", id)]).await?;
            list.blocks = parse("GetManagedPrefixListEntries", &entries, read_entries)?;
        }
        Ok(Network {
            vpcs: parse("DescribeVpcs", &vpcs, read_vpcs)?,
            subnets: parse("DescribeSubnets", &subnets, read_subnets)?,
            groups,
            instances: parse("DescribeInstances", &instances, read_instances)?,
            prefix_lists,
        })
    }

    async fn call(&self, action: &'static str, parameters: &[(&str, &str)]) -> Result<String, FabricError> {
        let mut form = vec![("Action", action), ("Version", "2016-11-15")];
        form.extend_from_slice(parameters);
        let sent = self.http.post(&self.endpoint).header("authorization", &self.authorization).form(&form).send();
        let failed = |source| FabricError::Call { action, source };
        let answer = sent.await.and_then(reqwest::Response::error_for_status).map_err(failed)?;
        answer.text().await.map_err(failed)
    }
}

fn is_named(groups: &BTreeMap<String, SecurityGroup>, list: &str) -> bool {
    let named = |rule: &Permission| rule.peers.iter().any(|peer| matches!(peer, Peer::PrefixList(id) if id == list));
    groups.values().any(|group| group.ingress.iter().chain(&group.egress).any(named))
}

fn parse<T>(
    action: &'static str,
    text: &str,
    read: impl FnOnce(&Reader<'_, '_>) -> Result<T, FabricError>,
) -> Result<T, FabricError> {
    let document = Document::parse(text).map_err(|source| FabricError::Xml { action, source })?;
    read(&Reader { action, node: document.root_element() })
}

/// An element of an answer, with the name of the call for error messages.
struct Reader<'a, 'input> {
    action: &'static str,
    node: Node<'a, 'input>,
}

impl Reader<'_, '_> {
    fn child(&self, name: &str) -> Option<Self> {
        let node = self.node.children().find(|node| node.has_tag_name(name))?;
        Some(Self { action: self.action, node })
    }

    /// The `item` elements of the list `name`; none where the list is missing.
    fn items(&self, name: &str) -> Vec<Self> {
        let Some(list) = self.child(name) else { return Vec::new() };
        let items = list.node.children().filter(|node| node.has_tag_name("item"));
        items.map(|node| Self { action: self.action, node }).collect()
    }

    fn optional(&self, name: &str) -> Option<String> {
        self.child(name).and_then(|child| child.node.text().map(|text| text.trim().to_owned()))
    }

    fn text(&self, name: &'static str) -> Result<String, FabricError> {
        self.optional(name).ok_or_else(|| self.unexpected(String::new(), name))
    }

    fn parsed<T: FromStr>(&self, name: &'static str) -> Result<T, FabricError> {
        let text = self.text(name)?;
        text.parse().map_err(|_| self.unexpected(text, name))
    }

    fn unexpected(&self, value: String, expected: &'static str) -> FabricError {
        FabricError::Value { action: self.action, value, expected }
    }
}

fn read_vpcs(answer: &Reader<'_, '_>) -> Result<BTreeMap<String, Vec<Cidr>>, FabricError> {
    let vpcs = answer.items("vpcSet").into_iter().map(|vpc| {
        let more = vpc.items("cidrBlockAssociationSet");
        let mut blocks = vec![vpc.parsed::<Cidr>("cidrBlock")?];
        for block in more {
            let block = block.parsed("cidrBlock")?;
            if !blocks.contains(&block) {
                blocks.push(block);
            }
        }
        Ok((vpc.text("vpcId")?, blocks))
    });
    vpcs.collect()
}

fn read_subnets(answer: &Reader<'_, '_>) -> Result<BTreeMap<String, Subnet>, FabricError> {
    let subnets = answer.items("subnetSet").into_iter().map(|subnet| {
        let value = Subnet { vpc: subnet.text("vpcId")?, block: subnet.parsed("cidrBlock")? };
        Ok((subnet.text("subnetId")?, value))
    });
    subnets.collect()
}

fn read_groups(answer: &Reader<'_, '_>) -> Result<BTreeMap<String, SecurityGroup>, FabricError> {
    let groups = answer.items("securityGroupInfo").into_iter().map(|group| {
        let value = SecurityGroup {
            vpc: group.text("vpcId")?,
            ingress: read_permissions(&group, "ipPermissions")?,
            egress: read_permissions(&group, "ipPermissionsEgress")?,
        };
        Ok((group.text("groupId")?, value))
    });
    groups.collect()
}

fn read_permissions(group: &Reader<'_, '_>, name: &str) -> Result<Vec<Permission>, FabricError> {
    let mut permissions = Vec::new();
    for rule in group.items(name) {
        let ports = match rule.text("ipProtocol")?.as_str() {
            "-1" => (0, u16::MAX),
            "tcp" | "6" => (rule.parsed("fromPort")?, rule.parsed("toPort")?),
            // Rules for other protocols admit no TCP connection.
            _ => continue,
        };
        let mut peers = Vec::new();
        for block in rule.items("ipRanges") {
            peers.push(Peer::Block(block.parsed("cidrIp")?));
        }
        for block in rule.items("ipv6Ranges") {
            peers.push(Peer::Block(block.parsed("cidrIpv6")?));
        }
        for group in rule.items("groups") {
            peers.push(Peer::Group(group.text("groupId")?));
        }
        for list in rule.items("prefixListIds") {
            peers.push(Peer::PrefixList(list.text("prefixListId")?));
        }
        permissions.push(Permission { ports, peers });
    }
    Ok(permissions)
}

fn read_instances(answer: &Reader<'_, '_>) -> Result<BTreeMap<String, Instance>, FabricError> {
    let mut instances = BTreeMap::new();
    for instance in answer.items("reservationSet").iter().flat_map(|reservation| reservation.items("instancesSet")) {
        let state = instance.child("instanceState").map(|state| state.text("name")).transpose()?.unwrap_or_default();
        // A terminated instance has lost its interface.
        let Some(address) = instance.optional("privateIpAddress").filter(|text| !text.is_empty()) else { continue };
        let address: IpAddr = address.parse().map_err(|_| instance.unexpected(address, "privateIpAddress"))?;
        let interface = instance.items("networkInterfaceSet").into_iter().next();
        let carrier = interface.as_ref().unwrap_or(&instance);
        let groups = carrier.items("groupSet").iter().map(|group| group.text("groupId")).collect::<Result<_, _>>()?;
        let mut tags = BTreeMap::new();
        for tag in instance.items("tagSet") {
            tags.insert(tag.text("key")?, tag.optional("value").unwrap_or_default());
        }
        let vpc = instance.optional("vpcId").unwrap_or_default();
        instances.insert(instance.text("instanceId")?, Instance { vpc, address, groups, state, tags });
    }
    Ok(instances)
}

fn read_prefix_lists(answer: &Reader<'_, '_>) -> Result<BTreeMap<String, PrefixList>, FabricError> {
    let lists = answer.items("prefixListSet").into_iter().map(|list| {
        let value = PrefixList { name: list.text("prefixListName")?, blocks: Vec::new() };
        Ok((list.text("prefixListId")?, value))
    });
    lists.collect()
}

fn read_entries(answer: &Reader<'_, '_>) -> Result<Vec<Cidr>, FabricError> {
    answer.items("entrySet").iter().map(|entry| entry.parsed("cidr")).collect()
}

#[cfg(test)]
mod tests;
