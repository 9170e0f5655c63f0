//! Blocks of addresses, as subnets have them.

use std::net::IpAddr;

/// A block of addresses (RFC 4632).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IpBlock {
    first: IpAddr,
    prefix: u8,
}

impl IpBlock {
    /// Reads `10.0.1.0/24`, or the like of IPv6.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (first, prefix): (IpAddr, u8) = (address.parse().ok()?, prefix.parse().ok()?);
        (prefix <= if first.is_ipv4() { 32 } else { 128 }).then_some(Self { first, prefix })
    }

    /// Whether the address is in it.
    pub fn contains(&self, address: IpAddr) -> bool {
        // Both at the upper end of 128 bits, so that a prefix means the same for either family.
        let bits = |address: IpAddr| match address {
            IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
            IpAddr::V6(address) => address.to_bits(),
        };
        let differing = bits(self.first) ^ bits(address);
        self.first.is_ipv4() == address.is_ipv4() && differing.leading_zeros() >= u32::from(self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_in_a_block_of_its_family_up_to_its_last_bit() {
        let is_in = |block: &str, address: &str| IpBlock::parse(block).unwrap().contains(address.parse().unwrap());
        assert!(is_in("10.0.1.0/24", "10.0.1.255") && !is_in("10.0.1.0/24", "10.0.2.0"));
        assert!(is_in("10.0.1.7/32", "10.0.1.7") && !is_in("10.0.1.7/32", "10.0.1.6"));
        assert!(is_in("0.0.0.0/0", "192.0.2.1") && !is_in("0.0.0.0/0", "::1") && !is_in("::/0", "192.0.2.1"));
        assert!(is_in("fd12:0:0:1::/64", "fd12::1:0:0:0:5") && !is_in("fd12:0:0:1::/64", "fd12::5"));
        for bad in ["10.0.1.0", "10.0.1.0/33", "10.0.1/24", "fd12::/129", "/24", "10.0.1.0/-1"] {
            assert_eq!(IpBlock::parse(bad), None, "{bad}");
        }
    }
}
