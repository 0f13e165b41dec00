//! Clients: a number for each client of a run, so that they can be served in turn. No address and no name leaves this
//! file.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tiershift_core::request::ClientId;

/// The address that a connection comes from. Its port has no meaning: a client opens many.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub(super) IpAddr);

/// The clients seen so far.
#[derive(Debug, Default)]
pub(super) struct Clients {
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    numbers: BTreeMap<[u8; blake3::OUT_LEN], ClientId>,
    next: u64,
}

impl Clients {
    /// Returns the number of a client: by the user that the request names or, if it names none, by its address.
    pub(super) fn number(&self, user: Option<&str>, peer: Option<Peer>) -> Option<ClientId> {
        let name = match (user.filter(|user| !user.is_empty()), peer) {
            (Some(user), _) => format!("user {user}"),
            (None, Some(Peer(address))) => format!("peer {}", address.to_canonical()),
            (None, None) => return None,
        };
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        // A client that returns after so many others gets a new number: only the turns of those that wait together
        // matter.
        if seen.numbers.len() >= MOST_CLIENTS {
            seen.numbers.clear();
        }
        let Seen { numbers, next } = &mut *seen;
        let number =
            numbers.entry(*blake3::hash(name.as_bytes()).as_bytes()).or_insert_with(|| {
                *next += 1;
                ClientId(*next)
            });
        Some(*number)
    }
}

/// Chosen: four megabytes, and more clients than a machine serves at a time.
const MOST_CLIENTS: usize = 1 << 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_keeps_its_number_and_the_user_goes_before_the_address() {
        let clients = Clients::default();
        let peer = |last| Some(Peer(IpAddr::from([127, 0, 0, last])));
        let cases = [
            (None, peer(1), Some(1)),
            (Some("a"), peer(1), Some(2)),
            (Some("a"), peer(2), Some(2)),
            (Some(""), peer(1), Some(1)),
            (None, peer(2), Some(3)),
            // A user name is not an address, whatever its text.
            (Some("127.0.0.1"), None, Some(4)),
            (None, None, None),
        ];
        for (user, peer, want) in cases {
            assert_eq!(clients.number(user, peer), want.map(ClientId), "{user:?} {peer:?}");
        }
        let mapped: IpAddr = "::ffff:127.0.0.1".parse().unwrap();
        assert_eq!(clients.number(None, Some(Peer(mapped))), Some(ClientId(1)));
    }
}
