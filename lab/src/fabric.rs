//! The network truth of the lab: who may open a connection to whom.
//!
//! EC2 (moto) holds the VPCs, security groups, prefix lists and instances; [`ec2`] reads them and the pure functions of
//! [`admission`] decide. Lab clients and the prober have no instance behind them, so they are [`Attachment`]s: an
//! address with a VPC and security groups, like the network interface that Lambda puts into a VPC.
//!
//! Invariant: nothing is admitted by default. What EC2 does not know, or could not be asked about, is refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

pub mod admission;
pub mod cidr;
pub mod ec2;
pub(crate) mod pipe;

use crate::caller;
use crate::process::Processes;
pub use admission::{Party, Refusal};
pub use cidr::Cidr;

/// How long a snapshot of EC2 is used before the next one is fetched.
const FRESH_FOR: Duration = Duration::from_millis(1_500);
/// A data path may use a snapshot up to this age while a newer one is on its way.
const USABLE_FOR: Duration = Duration::from_secs(5);

/// Where the kernel has a process connect from that binds nothing.
const UNBOUND: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What EC2 knows, as far as admission depends on it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Network {
    /// VPC id -> its address blocks.
    pub vpcs: BTreeMap<String, Vec<Cidr>>,
    /// Subnet id -> its VPC and block.
    pub subnets: BTreeMap<String, Subnet>,
    /// Security group id -> the group.
    pub groups: BTreeMap<String, SecurityGroup>,
    /// Instance id -> the instance.
    pub instances: BTreeMap<String, Instance>,
    /// Prefix list id -> the list.
    pub prefix_lists: BTreeMap<String, PrefixList>,
}

/// A subnet of a VPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// The VPC it is part of.
    pub vpc: String,
    /// Its addresses.
    pub block: Cidr,
}

/// A security group with the rules that matter for opening TCP connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecurityGroup {
    /// The VPC it belongs to.
    pub vpc: String,
    /// Who may connect in.
    pub ingress: Vec<Permission>,
    /// Where to connections may go out.
    pub egress: Vec<Permission>,
}

/// One permission of a security group: ports and the other ends they are open for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Permission {
    /// First and last TCP port; the whole range when the rule is for every protocol.
    pub ports: (u16, u16),
    /// The other ends; a permission without any admits nobody.
    pub peers: Vec<Peer>,
}

/// The other end named by a permission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peer {
    /// An address block.
    Block(Cidr),
    /// Every interface that carries this security group.
    Group(String),
    /// The blocks of a prefix list.
    PrefixList(String),
}

/// An EC2 instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Instance {
    /// The VPC of its first interface.
    pub vpc: String,
    /// The address of its first interface.
    pub address: IpAddr,
    /// The security groups of its first interface.
    pub groups: Vec<String>,
    /// EC2's word for its state: `running`, `stopped`, ...
    pub state: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

/// A managed prefix list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixList {
    /// For example `com.amazonaws.eu-west-1.vpc-lattice`.
    pub name: String,
    /// Its blocks.
    pub blocks: Vec<Cidr>,
}

/// A lab client's or the prober's place in the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// The source address it connects from; must lie in the VPC's block.
    pub address: IpAddr,
    /// The VPC it is attached to.
    pub vpc: String,
    /// The security groups of its interface.
    pub groups: Vec<String>,
}

/// EC2 could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FabricError {
    /// The request did not get through or was answered with an error status.
    #[error("EC2 {action} failed")]
    Call {
        /// The EC2 action.
        action: &'static str,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// The answer is not the XML that the EC2 Query API promises.
    #[error("EC2 {action} answered with XML that cannot be read")]
    Xml {
        /// The EC2 action.
        action: &'static str,
        /// Why.
        #[source]
        source: roxmltree::Error,
    },
    /// A value in the answer is not what it should be.
    #[error("EC2 {action} answered {value:?} where {expected} belongs")]
    Value {
        /// The EC2 action.
        action: &'static str,
        /// What was found.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
}

/// Where snapshots come from.
#[derive(Debug)]
enum Source {
    Ec2(ec2::Ec2),
    Fixed,
}

#[derive(Debug)]
struct Shared {
    source: Source,
    snapshot: Mutex<Option<(Instant, Arc<Network>)>>,
    attachments: Mutex<BTreeMap<IpAddr, Attachment>>,
    placed: Mutex<BTreeMap<String, (Processes, IpAddr)>>,
    refresh: tokio::sync::Mutex<()>,
}

/// The network truth, shared by the Lattice data plane, the targets' interfaces and the story. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fabric(Arc<Shared>);

impl Fabric {
    /// Reads EC2 at `endpoint` (for example `http://127.0.0.1:5001`) in `region`. Nothing is asked before it is needed.
    pub fn of_ec2(endpoint: &str, region: &str) -> Self {
        Self::new(Source::Ec2(ec2::Ec2::new(endpoint, region)), None)
    }

    /// A network that never changes but by [`Fabric::replace`]; for tests of what stands on it.
    pub fn fixed(network: Network) -> Self {
        Self::new(Source::Fixed, Some((Instant::now(), Arc::new(network))))
    }

    fn new(source: Source, snapshot: Option<(Instant, Arc<Network>)>) -> Self {
        Self(Arc::new(Shared {
            source,
            snapshot: Mutex::new(snapshot),
            attachments: Mutex::default(),
            placed: Mutex::default(),
            refresh: tokio::sync::Mutex::new(()),
        }))
    }

    /// Puts another network in the place of a fixed one.
    pub fn replace(&self, network: Network) {
        *lock(&self.0.snapshot) = Some((Instant::now(), Arc::new(network)));
    }

    /// Gives a source address a VPC and security groups; replaces what it had.
    pub fn attach(&self, attachment: Attachment) {
        lock(&self.0.attachments).insert(attachment.address, attachment);
    }

    /// Takes an address out of the network.
    pub fn detach(&self, address: IpAddr) {
        lock(&self.0.attachments).remove(&address);
    }

    /// Has a function's connections come from this address, wherever the kernel has them come from: its interface is there.
    pub fn place(&self, processes: &Processes, function: &str, address: IpAddr) {
        lock(&self.0.placed).insert(function.to_owned(), (processes.clone(), address));
    }

    /// The function is gone.
    pub fn displace(&self, function: &str) {
        lock(&self.0.placed).remove(function);
    }

    /// The address that a connection comes from in this network.
    pub fn whence(&self, peer: SocketAddr) -> IpAddr {
        // Whoever binds an address of its own is no function; and reading processes takes a while.
        let placed = if peer.ip() == UNBOUND { lock(&self.0.placed).clone() } else { BTreeMap::new() };
        let caller = placed.values().next().and_then(|(processes, _)| caller::of(processes, peer));
        let address = caller.and_then(|(_, function)| placed.get(&function).map(|(_, address)| *address));
        address.unwrap_or_else(|| peer.ip())
    }

    /// EC2 as it was at most half a second ago. For decisions that are answered once, such as registering a target.
    pub async fn network(&self) -> Result<Arc<Network>, FabricError> {
        self.network_not_older_than(FRESH_FOR).await
    }

    /// EC2 as it was a moment ago, without waiting for it where a recent snapshot exists: for every new connection.
    pub async fn recent_network(&self) -> Result<Arc<Network>, FabricError> {
        let held = lock(&self.0.snapshot).clone();
        match (&self.0.source, held) {
            (Source::Fixed, Some((_, network))) => Ok(network),
            (Source::Ec2(_), Some((taken, network))) if taken.elapsed() < USABLE_FOR => {
                if taken.elapsed() > FRESH_FOR {
                    let fabric = self.clone();
                    // A failed refresh is reported to whoever next finds the snapshot too old.
                    tokio::spawn(async move { fabric.network_not_older_than(FRESH_FOR).await.map(drop) });
                }
                Ok(network)
            }
            (Source::Fixed, None) | (Source::Ec2(_), Some(_) | None) => self.network_not_older_than(FRESH_FOR).await,
        }
    }

    async fn network_not_older_than(&self, age: Duration) -> Result<Arc<Network>, FabricError> {
        let held = || {
            let held = lock(&self.0.snapshot).clone()?;
            (matches!(self.0.source, Source::Fixed) || held.0.elapsed() < age).then_some(held.1)
        };
        if let Some(network) = held() {
            return Ok(network);
        }
        let _one_at_a_time = self.0.refresh.lock().await;
        if let Some(network) = held() {
            return Ok(network);
        }
        let asked = Instant::now();
        let network = match &self.0.source {
            Source::Ec2(ec2) => Arc::new(ec2.network().await?),
            Source::Fixed => Arc::default(),
        };
        *lock(&self.0.snapshot) = Some((asked, network.clone()));
        Ok(network)
    }

    /// May `from` open a TCP connection to this instance's interface on `port`?
    pub async fn admits(&self, from: IpAddr, instance: &str, port: u16) -> Result<(), Refusal> {
        let network = self.recent_network().await.map_err(|error| Refusal::Unknown(error.to_string()))?;
        self.admits_in(&network, from, instance, port)
    }

    /// [`Fabric::admits`] on a snapshot at hand.
    pub fn admits_in(&self, network: &Network, from: IpAddr, instance: &str, port: u16) -> Result<(), Refusal> {
        let party = self.party(network, from);
        admission::to_instance(network, &party, instance, port)
    }

    /// Who connects from this address: VPC Lattice, an attachment, an instance, or an address of a VPC with no
    /// interface known for it.
    pub fn party(&self, network: &Network, from: IpAddr) -> Party {
        let attachment = lock(&self.0.attachments).get(&from).cloned();
        admission::party(network, attachment.as_ref(), from)
    }
}

/// A poisoned lock only means that another thread panicked between two assignments of whole values.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
