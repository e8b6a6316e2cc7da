//! Which addresses a fetch may connect to: none of special use, unless the issuer is configured so (RFC 6890).
//!
//! A document that names an address must not make us ask inside our own network, least of all a metadata service that
//! hands out credentials by address alone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How far the fetches of one issuer reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Globally reachable addresses only.
    Public,
    /// Those, and private ones: an issuer inside the cluster or the site.
    InCluster,
    /// This machine only, also without TLS: for `dev` and tests.
    Loopback,
}

impl Reach {
    /// Whether a connection to the address is allowed.
    pub(crate) fn admits(self, address: IpAddr) -> bool {
        match class(address) {
            Class::Public => matches!(self, Self::Public | Self::InCluster),
            Class::Private => self == Self::InCluster,
            Class::Loopback => self == Self::Loopback,
            Class::Never => false,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Public,
    Private,
    Loopback,
    /// Link-local, multicast, reserved, a tunnel, or a metadata service.
    Never,
}

fn class(address: IpAddr) -> Class {
    match address {
        IpAddr::V4(address) => class_v4(address),
        IpAddr::V6(address) => class_v6(address),
    }
}

fn class_v4(address: Ipv4Addr) -> Class {
    match address.octets() {
        [127, ..] => Class::Loopback,
        // The metadata services of Alibaba Cloud, among the shared addresses, and of Azure, among the public ones.
        [100, 100, 100, 200] | [168, 63, 129, 16] => Class::Never,
        [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Class::Private,
        [0 | 224..=255, ..]
        | [169, 254, ..]
        | [192, 0, 0 | 2, _]
        | [192, 88, 99, _]
        | [198, 18 | 19, ..]
        | [198, 51, 100, _]
        | [203, 0, 113, _] => Class::Never,
        _ => Class::Public,
    }
}

fn class_v6(address: Ipv6Addr) -> Class {
    if let Some(mapped) = address.to_ipv4_mapped() {
        return class_v4(mapped);
    }
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 1] => Class::Loopback,
        // NAT64 leads to the IPv4 address in its last 32 bits.
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
            let [[a, b], [c, d]] = [high.to_be_bytes(), low.to_be_bytes()];
            match class_v4(Ipv4Addr::new(a, b, c, d)) {
                Class::Public => Class::Public,
                _ => Class::Never,
            }
        }
        // The metadata services of AWS, Oracle Cloud, Scaleway and Google Cloud, among the unique local addresses.
        [0xfd00, 0x0ec2, ..]
        | [0xfd00, 0x00c1, 0, 0, 0, 0, 0xa9fe, 0xa9fe]
        | [0xfd00, 0x0042, 0, 0, 0, 0, 0, 0x0042]
        | [0xfd20, 0x00ce, ..] => Class::Never,
        [0xfc00..=0xfdff, ..] => Class::Private,
        [0x2001, 0..=0x01ff | 0x0db8, ..] | [0x2002, ..] | [0x3fff, 0..=0x0fff, ..] => Class::Never,
        [0x2000..=0x3fff, ..] => Class::Public,
        _ => Class::Never,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(reach: Reach, address: &str) -> bool {
        reach.admits(address.parse().unwrap())
    }

    #[test]
    fn class_22_special_use_addresses_are_admitted_to_nobody() {
        for address in [
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "::ffff:168.63.129.16",
            "0.0.0.0",
            "0.1.2.3",
            "192.0.0.192",
            "192.0.2.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "fe80::1",
            "fec0::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "::ffff:169.254.169.254",
            "::7f00:1",
            "64:ff9b::169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "100::1",
        ] {
            for reach in [Reach::Public, Reach::InCluster, Reach::Loopback] {
                assert!(!admitted(reach, address), "{address} {reach:?}");
            }
        }
    }

    #[test]
    fn class_22_private_addresses_are_for_issuers_in_the_cluster_only() {
        for address in [
            "10.0.0.1",
            "172.16.0.1",
            "172.31.0.1",
            "192.168.1.1",
            "100.64.0.1",
            "fd12::1",
            "::ffff:10.0.0.1",
        ] {
            assert!(admitted(Reach::InCluster, address), "{address}");
            assert!(!admitted(Reach::Public, address), "{address}");
            assert!(!admitted(Reach::Loopback, address), "{address}");
        }
    }

    #[test]
    fn class_22_loopback_is_for_dev_only_and_dev_for_loopback_only() {
        for address in ["127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(admitted(Reach::Loopback, address), "{address}");
            assert!(!admitted(Reach::Public, address), "{address}");
            assert!(!admitted(Reach::InCluster, address), "{address}");
        }
        for address in ["8.8.8.8", "172.32.0.1", "2606:4700::1111", "64:ff9b::8.8.8.8"] {
            assert!(admitted(Reach::Public, address), "{address}");
            assert!(admitted(Reach::InCluster, address), "{address}");
            assert!(!admitted(Reach::Loopback, address), "{address}");
        }
    }
}
