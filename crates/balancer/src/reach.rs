//! Where a job may go: whose nodes may see it.

use infera_protocol::{AccountId, Route};

/// Which nodes may have a job, and which of them are the client's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reach {
    pub route: Route,
    /// The account that the client's key belongs to.
    pub account: Option<AccountId>,
}

/// What a node is to the client of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    Own,
    /// The operator's word.
    Trusted,
    Other,
}

impl Reach {
    pub(crate) fn host(self, account: Option<AccountId>, trusted: bool) -> Host {
        if account.is_some() && account == self.account {
            Host::Own
        } else if trusted {
            Host::Trusted
        } else {
            Host::Other
        }
    }

    pub(crate) fn covers(self, host: Host) -> bool {
        match self.route {
            Route::Own => host == Host::Own,
            Route::Trusted => host != Host::Other,
            Route::Any => true,
        }
    }

    /// A reference sees what it checks, so what may not go to every node is not checked.
    pub(crate) fn is_checked(self) -> bool {
        self.route == Route::Any
    }

    /// Whether fewer nodes may have it than any.
    pub(crate) fn is_narrow(self) -> bool {
        self.route != Route::Any
    }
}

/// A request may narrow what its key allows, and never widen it: a key that was made for one's own
/// machines is safe whatever a program asks with it.
pub(crate) fn narrowed(key: Route, asked: Option<Route>) -> Option<Route> {
    let width = |route| match route {
        Route::Own => 0,
        Route::Trusted => 1,
        Route::Any => 2,
    };
    let route = asked.unwrap_or(key);
    (width(route) <= width(key)).then_some(route)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_have_a_job_as_a_table() {
        let (mine, other) = (
            AccountId::from_bytes([1; 32]),
            AccountId::from_bytes([2; 32]),
        );
        let (mine, other) = (Some(mine), Some(other));
        for (route, client, node, trusted, host, covered) in [
            (Route::Own, mine, mine, false, Host::Own, true),
            (Route::Own, mine, mine, true, Host::Own, true),
            (Route::Own, mine, other, true, Host::Trusted, false),
            (Route::Own, mine, None, false, Host::Other, false),
            // Neither has an account: that makes no node anybody's own.
            (Route::Own, None, None, true, Host::Trusted, false),
            (Route::Trusted, mine, mine, false, Host::Own, true),
            (Route::Trusted, mine, other, true, Host::Trusted, true),
            (Route::Trusted, None, None, false, Host::Other, false),
            (Route::Any, None, other, false, Host::Other, true),
            (Route::Any, mine, mine, false, Host::Own, true),
        ] {
            let reach = Reach {
                route,
                account: client,
            };
            let found = reach.host(node, trusted);
            assert_eq!(found, host, "{reach:?} {node:?} {trusted}");
            assert_eq!(reach.covers(found), covered, "{reach:?} {node:?} {trusted}");
        }
    }

    #[test]
    fn a_request_narrows_its_keys_route_and_never_widens_it() {
        let (own, trusted, any) = (Route::Own, Route::Trusted, Route::Any);
        for (key, asked, route) in [
            (any, None, Some(any)),
            (any, Some(own), Some(own)),
            (any, Some(trusted), Some(trusted)),
            (trusted, Some(own), Some(own)),
            (trusted, Some(any), None),
            (own, None, Some(own)),
            (own, Some(own), Some(own)),
            (own, Some(trusted), None),
            (own, Some(any), None),
        ] {
            assert_eq!(narrowed(key, asked), route, "{key:?} {asked:?}");
        }
    }
}
