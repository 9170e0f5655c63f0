//! Address blocks.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address block such as `127.1.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// The text is not an address block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address block")]
pub struct NotACidr(pub String);

impl Cidr {
    /// Is the address in this block? Never across address families.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                same_prefix(network.to_bits().into(), address.to_bits().into(), 32, self.prefix)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                same_prefix(network.to_bits(), address.to_bits(), 128, self.prefix)
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn same_prefix(left: u128, right: u128, width: u8, prefix: u8) -> bool {
    let ignored = u32::from(width - prefix.min(width));
    left.checked_shr(ignored).unwrap_or(0) == right.checked_shr(ignored).unwrap_or(0)
}

impl FromStr for Cidr {
    type Err = NotACidr;

    fn from_str(text: &str) -> Result<Self, NotACidr> {
        let refused = || NotACidr(text.to_owned());
        let (network, prefix) = text.split_once('/').ok_or_else(refused)?;
        let network: IpAddr = network.parse().map_err(|_| refused())?;
        let prefix: u8 = prefix.parse().map_err(|_| refused())?;
        let widest = if network.is_ipv4() { 32 } else { 128 };
        if prefix <= widest { Ok(Self { network, prefix }) } else { Err(refused()) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(block: &str, address: &str) -> bool {
        block.parse::<Cidr>().unwrap().contains(address.parse().unwrap())
    }

    #[test]
    fn a_block_holds_its_addresses_and_no_others() {
        assert!(inside("127.1.0.0/16", "127.1.255.3"));
        assert!(!inside("127.1.0.0/16", "127.2.0.0"));
        assert!(inside("0.0.0.0/0", "127.2.0.0"));
        assert!(inside("127.0.0.1/32", "127.0.0.1"));
        assert!(!inside("127.0.0.1/32", "127.0.0.2"));
        assert!(inside("fd00:ec2:80::/64", "fd00:ec2:80::1"));
        assert!(!inside("::/0", "127.0.0.1"));
    }

    #[test]
    fn text_that_is_no_block_is_refused() {
        for bad in ["127.0.0.1", "127.0.0.1/33", "x/8", "127.0.0.0/-1", "fd00::/129"] {
            assert_eq!(bad.parse::<Cidr>(), Err(NotACidr(bad.to_owned())));
        }
    }
}
