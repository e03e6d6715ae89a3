//! What a server, a mode and a client were seen to do, held against what `docs/compatibility.md` says of them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use crate::support::{Library, leave};

const DOCUMENT: &str = include_str!("../../../../../docs/compatibility.md");

/// The flows, as the rows of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    Discovery,
    ClientCredentials,
    Code,
    IdToken,
    Refresh,
    Reuse,
    Device,
    Userinfo,
    Introspection,
    RevokedAccessToken,
    RevokedRefreshToken,
    NewKey,
    ServerDown,
}

/// Where the broker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    Endpoint,
    Origin,
}

/// A mode and a client, as the columns of a table.
pub type Column = (Mode, Library);

/// What was seen before one server. However its test ends, it is left for `scripts/test` to print.
pub struct Table {
    server: &'static str,
    version: String,
    clients: String,
    cells: Mutex<BTreeMap<(Flow, Column), Cell>>,
}

enum Cell {
    Works,
    Fails(&'static str),
}

impl Flow {
    const ALL: [Self; 13] = [
        Self::Discovery,
        Self::ClientCredentials,
        Self::Code,
        Self::IdToken,
        Self::Refresh,
        Self::Reuse,
        Self::Device,
        Self::Userinfo,
        Self::Introspection,
        Self::RevokedAccessToken,
        Self::RevokedRefreshToken,
        Self::NewKey,
        Self::ServerDown,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Discovery => "the endpoints, by the metadata",
            Self::ClientCredentials => "client_credentials, RS256 and ES256",
            Self::Code => "code + PKCE, log-in in Chromium",
            Self::IdToken => "the ID token that comes with it",
            Self::Refresh => "refresh with rotation",
            Self::Reuse => "a refresh token used again ends its grant",
            Self::Device => "device",
            Self::Userinfo => "userinfo",
            Self::Introspection => {
                "introspection: a caller of ours hears the claims, a client of the server's what that says"
            }
            Self::RevokedAccessToken => "revocation of an access token; not of another client's",
            Self::RevokedRefreshToken => "revocation of a refresh token ends its access tokens",
            Self::NewKey => "a new key at the server",
            Self::ServerDown => "the server is down: issued tokens go on, new ones are 502 or 504",
        }
    }
}

impl Mode {
    pub const ALL: [Self; 2] = [Self::Endpoint, Self::Origin];

    fn name(self) -> &'static str {
        match self {
            Self::Endpoint => "`endpoint`",
            Self::Origin => "`origin`",
        }
    }
}

impl Table {
    /// An empty one, of that server and these versions of the clients. Curl's is the system's, whichever that is.
    pub fn new(server: &'static str, version: String, clients: &[(Library, String)]) -> Self {
        let named = |(library, version): &(Library, String)| match library {
            Library::Curl => library.name().to_owned(),
            _ => format!("{} {version}", library.name()),
        };
        Self {
            server,
            version,
            clients: clients.iter().map(named).collect::<Vec<_>>().join(", "),
            cells: Mutex::default(),
        }
    }

    /// A test has seen it.
    pub fn works(&self, column: Column, flow: Flow) {
        self.note(column, flow, Cell::Works);
    }

    /// A test has seen that it does not work, and that is why.
    pub fn fails(&self, column: Column, flow: Flow, why: &'static str) {
        self.note(column, flow, Cell::Fails(why));
    }

    fn note(&self, column: Column, flow: Flow, cell: Cell) {
        let before = self.cells.lock().unwrap().insert((flow, column), cell);
        assert!(before.is_none(), "{column:?}, {flow:?}: once is enough");
    }

    /// Nothing more is to be seen: fails if anything was not, or if the document says something else.
    pub fn end(self) {
        let seen = self.section();
        assert!(!seen.contains('?'), "not everything was tried:\n{seen}");
        let said = DOCUMENT
            .split("\n## ")
            .find(|section| section.starts_with(self.server))
            .unwrap_or_default();
        assert!(
            said.trim_end() == seen.trim_end(),
            "docs/compatibility.md says something else than what was seen:\n{seen}"
        );
    }

    fn section(&self) -> String {
        let cells = self.cells.lock().unwrap();
        let mut reasons = Vec::new();
        let mut text = format!(
            "{} {}\n\nClients: {}.\n\n",
            self.server, self.version, self.clients
        );
        let columns = || {
            Mode::ALL
                .into_iter()
                .flat_map(|mode| Library::ALL.map(|library| (mode, library)))
        };
        text += "| flow |";
        for (mode, library) in columns() {
            write!(text, " {}, {} |", mode.name(), library.name()).unwrap();
        }
        text += "\n|---|---|---|---|---|---|---|\n";
        for flow in Flow::ALL {
            write!(text, "| {} |", flow.title()).unwrap();
            for column in columns() {
                match cells.get(&(flow, column)) {
                    Some(Cell::Works) => text += " ✓ |",
                    Some(Cell::Fails(why)) => write!(text, " ✗ {} |", number(&mut reasons, why)).unwrap(),
                    None => text += " ? |",
                }
            }
            text += "\n";
        }
        text += "\n";
        for (index, why) in reasons.iter().enumerate() {
            writeln!(text, "{}. {why}", index + 1).unwrap();
        }
        text
    }
}

impl Drop for Table {
    fn drop(&mut self) {
        leave(&format!("compatibility-{}.md", self.server), &self.section());
    }
}

/// The number of a reason in the list of reasons.
fn number(reasons: &mut Vec<&'static str>, why: &'static str) -> usize {
    let known = reasons.iter().position(|known| *known == why);
    known.unwrap_or_else(|| {
        reasons.push(why);
        reasons.len() - 1
    }) + 1
}
