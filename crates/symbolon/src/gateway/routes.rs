//! Which route a request takes, read in every way that a resource server might read its path.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::Uri;

use super::Route;
use crate::forward::{Forwarder, RootsError};
use crate::paths;

/// A route with its connections.
pub(super) struct Target {
    pub(super) route: Route,
    pub(super) server: Uri,
    pub(super) forwarder: Forwarder,
}

/// All routes; of those that fit, the one with the longest path wins, and one for the host before one for any.
pub(super) struct Routes(Vec<Arc<Target>>);

/// Where a request goes.
pub(super) enum Choice {
    /// Along this route, whichever way its path is read.
    Route(Arc<Target>),
    /// Nowhere.
    None,
    /// Here or there, depending on who reads the path (HT-06).
    Ambiguous,
}

impl Routes {
    pub(super) fn new(routes: Vec<Route>) -> Result<Self, RootsError> {
        // Routes with the same roots share their connections.
        let mut forwarders: HashMap<Option<PathBuf>, Forwarder> = HashMap::new();
        let mut targets = Vec::with_capacity(routes.len());
        for route in routes {
            let forwarder = match forwarders.get(&route.ca) {
                Some(forwarder) => forwarder.clone(),
                None => {
                    let forwarder = Forwarder::new(route.ca.as_deref())?;
                    forwarders.insert(route.ca.clone(), forwarder.clone());
                    forwarder
                }
            };
            let server = route.resource_server.as_str().parse().unwrap_or_default();
            targets.push(Arc::new(Target {
                route,
                server,
                forwarder,
            }));
        }
        targets.sort_by_key(|target| {
            let Route { host, path, .. } = &target.route;
            (host.is_none(), std::cmp::Reverse(path.len()))
        });
        Ok(Self(targets))
    }

    /// The route of a path at a host. A path that a resource server could take for another one, by decoding, by
    /// resolving dots, by dropping parameters, by case, is forwarded only if that one takes the same route: then no
    /// other policy could have been asked for, and the path is sent exactly as it came.
    pub(super) fn choose(&self, host: &str, path: &str) -> Choice {
        let written = self.find(host, path);
        let same = |found: Option<&Arc<Target>>| match (written, found) {
            (Some(written), Some(found)) => Arc::ptr_eq(written, found),
            (None, None) => true,
            _ => false,
        };
        if !paths::readings(path)
            .iter()
            .all(|reading| same(self.find(host, reading)))
        {
            return Choice::Ambiguous;
        }
        written.map_or(Choice::None, |target| Choice::Route(Arc::clone(target)))
    }

    fn find(&self, host: &str, path: &str) -> Option<&Arc<Target>> {
        self.0.iter().find(|target| {
            let Route {
                host: wanted,
                path: prefix,
                ..
            } = &target.route;
            wanted
                .as_ref()
                .is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
                && is_under(path, prefix)
        })
    }
}

/// A prefix ends at a `/`: `/orders` has `/orders` and `/orders/1` under it, and not `/orders2`.
fn is_under(path: &str, prefix: &str) -> bool {
    let prefix = prefix.trim_end_matches('/');
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn routes(wanted: &[(Option<&str>, &str)]) -> Routes {
        let route = |&(host, path): &(Option<&str>, &str)| Route {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            resource_server: "http://127.0.0.1:1".parse().unwrap(),
            ca: None,
            audience: None,
            scopes: Vec::new(),
            max_authorization: 8000,
            timeout: Duration::from_secs(1),
            cors_origins: Vec::new(),
        };
        crate::install_crypto();
        Routes::new(wanted.iter().map(route).collect()).unwrap()
    }

    fn chosen(routes: &Routes, host: &str, path: &str) -> String {
        match routes.choose(host, path) {
            Choice::Route(target) => target.route.path.clone(),
            Choice::None => "none".into(),
            Choice::Ambiguous => "ambiguous".into(),
        }
    }

    #[test]
    fn a_prefix_ends_at_a_slash_and_the_longest_wins() {
        let routes = routes(&[
            (None, "/orders"),
            (None, "/orders/archive"),
            (Some("b.example"), "/"),
        ]);
        for (host, path, want) in [
            ("a.example", "/orders", "/orders"),
            ("a.example", "/orders/", "/orders"),
            ("a.example", "/orders/1", "/orders"),
            ("a.example", "/orders2", "none"),
            ("a.example", "/", "none"),
            ("a.example", "/orders/archive/1", "/orders/archive"),
            ("a.example", "/orders/archived", "/orders"),
            ("B.example", "/orders", "/"),
        ] {
            assert_eq!(chosen(&routes, host, path), want, "{host}{path}");
        }
    }

    // HT-06
    #[test]
    fn a_path_that_could_take_another_route_is_refused() {
        let routes = routes(&[(None, "/public"), (None, "/admin")]);
        for path in [
            "/public/../admin",
            "/public/%2e%2e/admin",
            "/public/%2E%2e/admin/x",
            "/public%2f..%2fadmin",
            "/public/..;/admin",
            "/public/..;a=b/admin",
            "/public/%252e%252e/admin",
            "/public\\..\\admin",
            "/public/%5c../admin",
            "/%61dmin",
            "/Admin",
            "//admin",
            "/./admin",
            "/x/../admin",
            "/admin%00/x/../../public",
            "/public/./../admin",
        ] {
            assert_eq!(chosen(&routes, "h", path), "ambiguous", "{path}");
        }
    }

    // HT-06: the path is sent as it came where every reading leads to the same policy.
    #[test]
    fn a_path_with_one_meaning_is_left_alone() {
        let routes = routes(&[(None, "/public"), (None, "/admin")]);
        for path in [
            "/public/a%2fb",
            "/public/File.TXT",
            "/public/a;v=1",
            "/public/a//b",
            "/public/a/../b",
            "/public/.x",
        ] {
            assert_eq!(chosen(&routes, "h", path), "/public", "{path}");
        }
        assert_eq!(
            chosen(&self::routes(&[(None, "/")]), "h", "/public%2f..%2fadmin"),
            "/"
        );
    }
}
