//! The decisions: pure functions over a snapshot of the network.
//!
//! Rules, with where AWS states them:
//! * Security groups are allow lists, the union of all of an interface's groups counts, and answers need no rule of
//!   their own (VPC User Guide, security-group-rules).
//! * A security group can be named as a source for interfaces that carry it, within one VPC.
//! * Traffic of VPC Lattice reaches targets from the addresses of the managed prefix list, never from the client's
//!   (VPC Lattice User Guide, security-groups). `127.171.0.0/24` plays `169.254.171.0/24`.
//! * Two VPCs without a connection between them do not reach each other; the lab has no such connection.

use std::net::{IpAddr, Ipv4Addr};

use super::{Attachment, Network, Peer, Permission};

/// Why a connection is not admitted. The one who asked sees nothing of it: the connection just never answers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The target's VPC is not the caller's and nothing connects the two.
    #[error("{from} is in {from_vpc}, which has no route to {to_vpc}")]
    NoRoute {
        /// Who asks.
        from: IpAddr,
        /// Where they are.
        from_vpc: String,
        /// Where they want to go.
        to_vpc: String,
    },
    /// The source address is in no VPC at all.
    #[error("{0} is in no VPC")]
    Nowhere(IpAddr),
    /// No ingress rule of the groups asked admits the caller.
    #[error("no rule of {groups:?} admits {from} on port {port}")]
    Ingress {
        /// Who asks.
        from: IpAddr,
        /// The groups whose rules were read.
        groups: Vec<String>,
        /// The port asked for.
        port: u16,
    },
    /// No egress rule of the caller's own groups lets it out.
    #[error("no rule of {groups:?} lets {from} out to {to} on port {port}")]
    Egress {
        /// Who asks.
        from: IpAddr,
        /// Its groups.
        groups: Vec<String>,
        /// Where it wants to go.
        to: IpAddr,
        /// The port asked for.
        port: u16,
    },
    /// The VPC is not associated with any service network that holds the service.
    #[error("{vpc} has no active association with a service network of this service")]
    NotAssociated {
        /// The caller's VPC.
        vpc: String,
    },
    /// An auth policy does not allow it.
    #[error("the auth policy of the {whose} does not admit {vpc}")]
    Denied {
        /// The caller's VPC.
        vpc: String,
        /// `Service` or `Network`.
        whose: &'static str,
    },
    /// The instance does not exist.
    #[error("{0} does not exist")]
    NoInstance(String),
    /// The instance is not running.
    #[error("{instance} is {state}")]
    NotRunning {
        /// The instance.
        instance: String,
        /// EC2's word for its state.
        state: String,
    },
    /// EC2 could not be asked.
    #[error("the network is not known: {0}")]
    Unknown(String),
}

/// Who opens a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Party {
    /// VPC Lattice's own data plane.
    Lattice(IpAddr),
    /// An interface in a VPC. `groups` is `None` where no interface is known for the address: such a caller passes by
    /// address rules only.
    Interface {
        /// Its address.
        address: IpAddr,
        /// Its VPC.
        vpc: String,
        /// Its security groups.
        groups: Option<Vec<String>>,
    },
    /// An address outside every VPC.
    Nowhere(IpAddr),
}

impl Party {
    /// The address the connection comes from.
    pub fn address(&self) -> IpAddr {
        match self {
            Self::Lattice(address) | Self::Interface { address, .. } | Self::Nowhere(address) => *address,
        }
    }
}

/// Is this one of the lab's stand-ins for VPC Lattice's link-local addresses?
pub fn is_lattice(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if v4.octets()[..3] == [127, 171, 0])
}

/// The address that rules are written for: `127.171.0.x` plays `169.254.171.x`, every other address is itself.
fn as_rules_see_it(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(v4) if is_lattice(address) => Ipv4Addr::new(169, 254, 171, v4.octets()[3]).into(),
        IpAddr::V4(_) | IpAddr::V6(_) => address,
    }
}

/// See [`super::Fabric::party`].
pub fn party(network: &Network, attachment: Option<&Attachment>, from: IpAddr) -> Party {
    if is_lattice(from) {
        return Party::Lattice(from);
    }
    if let Some(attachment) = attachment {
        let (vpc, groups) = (attachment.vpc.clone(), Some(attachment.groups.clone()));
        return Party::Interface { address: from, vpc, groups };
    }
    let gone = ["terminated", "shutting-down"];
    let instance = network.instances.values().find(|i| i.address == from && !gone.contains(&i.state.as_str()));
    if let Some(instance) = instance {
        let (vpc, groups) = (instance.vpc.clone(), Some(instance.groups.clone()));
        return Party::Interface { address: from, vpc, groups };
    }
    match network.vpcs.iter().find(|(_, blocks)| blocks.iter().any(|block| block.contains(from))) {
        Some((vpc, _)) => Party::Interface { address: from, vpc: vpc.clone(), groups: None },
        None => Party::Nowhere(from),
    }
}

/// May this party connect to an instance's interface?
pub fn to_instance(network: &Network, party: &Party, instance: &str, port: u16) -> Result<(), Refusal> {
    let target = network.instances.get(instance).ok_or_else(|| Refusal::NoInstance(instance.to_owned()))?;
    if target.state != "running" {
        return Err(Refusal::NotRunning { instance: instance.to_owned(), state: target.state.clone() });
    }
    match party {
        Party::Nowhere(address) => return Err(Refusal::Nowhere(*address)),
        Party::Interface { address, vpc, .. } if *vpc != target.vpc => {
            let (from_vpc, to_vpc) = (vpc.clone(), target.vpc.clone());
            return Err(Refusal::NoRoute { from: *address, from_vpc, to_vpc });
        }
        Party::Interface { .. } => out(network, party, target.address, &target.groups, port)?,
        Party::Lattice(_) => {}
    }
    into(network, party, &target.groups, port)
}

/// Do these groups let the party in on this port? Used for interfaces and for the groups of a VPC association.
pub fn into(network: &Network, party: &Party, groups: &[String], port: u16) -> Result<(), Refusal> {
    let carried = match party {
        Party::Interface { groups: Some(carried), .. } => carried.as_slice(),
        Party::Interface { groups: None, .. } | Party::Lattice(_) | Party::Nowhere(_) => &[],
    };
    let rules = groups.iter().filter_map(|id| network.groups.get(id)).flat_map(|group| &group.ingress);
    if allows(network, rules, party.address(), carried, port) {
        Ok(())
    } else {
        Err(Refusal::Ingress { from: party.address(), groups: groups.to_vec(), port })
    }
}

/// Do the party's own groups let it out to `to`, whose interface carries `to_groups`?
pub fn out(network: &Network, party: &Party, to: IpAddr, to_groups: &[String], port: u16) -> Result<(), Refusal> {
    let own = match party {
        Party::Interface { groups: Some(own), .. } => own,
        // Where no interface is known there is no egress rule to read: the lab only knows the address.
        Party::Interface { groups: None, .. } | Party::Lattice(_) | Party::Nowhere(_) => return Ok(()),
    };
    let rules = own.iter().filter_map(|id| network.groups.get(id)).flat_map(|group| &group.egress);
    if allows(network, rules, to, to_groups, port) {
        Ok(())
    } else {
        Err(Refusal::Egress { from: party.address(), groups: own.clone(), to, port })
    }
}

fn allows<'a>(
    network: &Network,
    mut rules: impl Iterator<Item = &'a Permission>,
    other: IpAddr,
    other_groups: &[String],
    port: u16,
) -> bool {
    let seen = as_rules_see_it(other);
    rules.any(|rule| {
        (rule.ports.0..=rule.ports.1).contains(&port)
            && rule.peers.iter().any(|peer| match peer {
                Peer::Block(block) => block.contains(seen),
                Peer::Group(group) => other_groups.contains(group),
                Peer::PrefixList(id) => {
                    network.prefix_lists.get(id).is_some_and(|list| list.blocks.iter().any(|b| b.contains(seen)))
                }
            })
    })
}

#[cfg(test)]
mod tests;
