//! Which route a request takes, read in every way that a resource server might read its path.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use hyper::Uri;

use super::Route;
use crate::forward::{Forwarder, Roots, RootsError};
use crate::paths;
use crate::resolve::Scope;

/// A route with its connections.
pub(super) struct Target {
    pub(super) route: Route,
    /// Whose tokens it takes.
    pub(super) scope: Scope,
    pub(super) server: Uri,
    pub(super) forwarder: Forwarder,
    /// The route's path as a server reads it that makes no difference between capitals and small letters.
    folded: String,
}

/// All routes; of those that fit, the one with the longest path wins, and one for the host before one for any.
pub(super) struct Routes {
    targets: Vec<Arc<Target>>,
    /// Whether a path in small letters may be meant for one of them all the same.
    any_has_capitals: bool,
}

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
    pub(super) fn new(routes: Vec<Route>, scope: impl Fn(&[String]) -> Scope) -> Result<Self, RootsError> {
        // Routes with the same roots share their connections.
        let mut forwarders: HashMap<Roots, Forwarder> = HashMap::new();
        let mut targets = Vec::with_capacity(routes.len());
        for route in routes {
            let roots = Roots::of(&route.resource_server, route.ca.as_deref());
            let forwarder = match forwarders.entry(roots) {
                Entry::Occupied(made) => made.get().clone(),
                Entry::Vacant(place) => {
                    let forwarder = Forwarder::new(place.key())?;
                    place.insert(forwarder).clone()
                }
            };
            let server = route.resource_server.as_str().parse().unwrap_or_default();
            targets.push(Arc::new(Target {
                folded: paths::fold_case(&route.path),
                scope: scope(&route.issuers),
                route,
                server,
                forwarder,
            }));
        }
        targets.sort_by_key(|target| {
            let Route { host, path, .. } = &target.route;
            (host.is_none(), std::cmp::Reverse(path.len()))
        });
        Ok(Self {
            any_has_capitals: targets.iter().any(|target| target.folded != target.route.path),
            targets,
        })
    }

    /// The route of a path at a host. A path that a resource server could take for another one, by decoding, by
    /// resolving dots, by dropping parameters, by case, is forwarded only if that one takes the same route: then no
    /// other policy could have been asked for, and the path is sent exactly as it came.
    pub(super) fn choose(&self, host: &str, path: &str) -> Choice {
        let written = self.find(host, path);
        let has_other_readings = self.any_has_capitals || paths::has_other_readings(path);
        if has_other_readings && !self.all_lead_to(written, host, path) {
            return Choice::Ambiguous;
        }
        written.map_or(Choice::None, |target| Choice::Route(Arc::clone(target)))
    }

    fn find(&self, host: &str, path: &str) -> Option<&Arc<Target>> {
        self.of_host(host)
            .find(|target| is_under(path, &target.route.path))
    }

    /// Whether every reading of the path takes the route that the path as written takes.
    fn all_lead_to(&self, written: Option<&Arc<Target>>, host: &str, path: &str) -> bool {
        let is_the_only_one = self
            .of_host(host)
            .next()
            .is_some_and(|target| target.route.path == "/");
        let same = |found: Option<&Arc<Target>>| found.map(Arc::as_ptr) == written.map(Arc::as_ptr);
        is_the_only_one
            || paths::readings(path).is_some_and(|readings| {
                readings
                    .iter()
                    .all(|reading| same(self.find(host, reading)) && same(self.find_folded(host, reading)))
            })
    }

    fn find_folded(&self, host: &str, path: &str) -> Option<&Arc<Target>> {
        let path = paths::fold_case(path);
        self.of_host(host).find(|target| is_under(&path, &target.folded))
    }

    /// The routes that a host has, in the order in which they are tried.
    fn of_host(&self, host: &str) -> impl Iterator<Item = &Arc<Target>> {
        self.targets.iter().filter(move |target| {
            let wanted = target.route.host.as_ref();
            wanted.is_none_or(|wanted| wanted.eq_ignore_ascii_case(host))
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
            issuers: Vec::new(),
            audience: None,
            scopes: Vec::new(),
            max_authorization: 8000,
            timeout: Duration::from_secs(1),
            cors_origins: Vec::new(),
        };
        crate::install_crypto();
        Routes::new(wanted.iter().map(route).collect(), |_| Scope::SPLIT).unwrap()
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
        let routes = routes(&[(None, "/public"), (None, "/admin"), (None, "/k")]);
        for path in [
            "/public/../admin",
            "/public/%2e%2e/admin",
            "/public/%2E%2e/admin/x",
            "/public%2f..%2fadmin",
            "/public/..;/admin",
            "/public/..;a=b/admin",
            "/public/%u002e%U002E/admin",
            "/public/%25u002e./admin",
            "/%u0061dmin",
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
            "/public;%2f/..%2fadmin",
            "/public/%25252e%25252e/admin",
            "/admin%3f/../public",
            "/admin./x",
            "/admin%20/x",
            "/\u{212a}",
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
            "/public/%user/%u12",
            "/public/%C3%A4/a%2fB;v=1//c./d%20",
        ] {
            assert_eq!(chosen(&routes, "h", path), "/public", "{path}");
        }
        assert_eq!(
            chosen(&self::routes(&[(None, "/")]), "h", "/public%2f..%2fadmin"),
            "/"
        );
    }

    // HT-06
    #[test]
    fn capitals_in_a_route_are_what_its_paths_are_written_with() {
        let routes = routes(&[(None, "/Orders"), (None, "/")]);
        for (path, want) in [
            ("/Orders/1", "/Orders"),
            ("/Orders/File.TXT", "/Orders"),
            ("/orders/1", "ambiguous"),
            ("/ORDERS", "ambiguous"),
            ("/other", "/"),
            ("/Other", "/"),
        ] {
            assert_eq!(chosen(&routes, "h", path), want, "{path}");
        }
    }

    #[test]
    fn a_path_with_too_many_readings_is_refused() {
        let routes = routes(&[(None, "/public"), (None, "/admin")]);
        let path = format!("/public/{}", "%25a;B//./\\%3b.".repeat(500));
        assert_eq!(chosen(&routes, "h", &path), "ambiguous");
    }
}
