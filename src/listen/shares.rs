//! What one address may hold, so that no single peer holds all there is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// Counts what each address holds. It knows those only that hold something.
#[derive(Clone, Debug)]
pub(super) struct Shares {
    most: usize,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One thing that an address holds, until dropped.
#[derive(Debug)]
pub(super) struct Share {
    origin: IpAddr,
    held: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

impl Shares {
    /// Each address may hold `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { most, held: Arc::default() }
    }

    /// One more for an address; `None` if it holds all that it may.
    pub(super) fn take(&self, address: IpAddr) -> Option<Share> {
        let origin = origin(address);
        let mut held = self.held.lock();
        let count = held.entry(origin).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Share { origin, held: Arc::clone(&self.held) })
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.held.lock();
        match held.get_mut(&self.origin) {
            Some(count) if *count > 1 => *count -= 1,
            _ => {
                held.remove(&self.origin);
            }
        }
    }
}

/// Whose address it is: of IPv6 the first 64 bits, since one host has all the rest to choose from (RFC 4291 section 2.5.1).
pub fn origin(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let network = u128::from(address) >> 64 << 64;
            Ipv6Addr::from(network).into()
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn class_15_an_address_holds_its_share_and_takes_nothing_of_another_s() {
        let shares = Shares::new(2);
        let first = shares.take(ip("192.0.2.1")).unwrap();
        let _second = shares.take(ip("192.0.2.1")).unwrap();
        assert!(shares.take(ip("192.0.2.1")).is_none());
        let _other = shares.take(ip("192.0.2.2")).unwrap();
        drop(first);
        assert!(shares.take(ip("192.0.2.1")).is_some());
    }

    #[test]
    fn class_15_another_spelling_or_another_address_of_one_host_is_no_second_share() {
        let shares = Shares::new(1);
        let _held = [shares.take(ip("192.0.2.1")), shares.take(ip("2001:db8::1"))];
        assert!(shares.take(ip("::ffff:192.0.2.1")).is_none());
        assert!(shares.take(ip("2001:db8::ffff:1")).is_none());
        assert!(shares.take(ip("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn class_15_addresses_that_hold_nothing_are_forgotten() {
        let shares = Shares::new(1);
        for last in 0..=255 {
            drop(shares.take(IpAddr::from([192, 0, 2, last])));
        }
        assert!(shares.held.lock().is_empty());
    }
}
