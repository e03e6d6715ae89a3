//! A token service and gateways, each a process of its own, as users run them.

use std::ffi::OsString;
use std::fs;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::time::Duration;

use symbolon_core::{Secret, base64url, random, sha256};
use tempfile::TempDir;

use crate::api::Api;
use crate::authorization_server::AuthorizationServer;
use crate::client::Client;
use crate::history::{AtGateway, Expect, Goes};
use crate::output::{Whose, canary, own_folder};
use crate::process::{Process, free_port, patiently};
use crate::rows::Scene;

/// Running processes over a store.
pub(crate) struct Deployment {
    pub(crate) api: Api,
    pub(crate) authorization_server: AuthorizationServer,
    pub(crate) token_service: Party,
    pub(crate) gateways: Vec<Party>,
    pub(crate) detect: Duration,
    pub(crate) tolerate: Duration,
    /// The secret of every client.
    pub(crate) client_secret: String,
    /// The operators' token.
    pub(crate) operator: String,
    folder: TempDir,
}

/// What a deployment is to be.
pub(crate) struct Plan {
    /// The `[store]` table of each process, without its first line; which of them are reached how is up to the row.
    pub(crate) store: Box<dyn Fn(Role) -> String + Send>,
    /// More in a process's environment.
    pub(crate) environment: Box<dyn Fn(Role) -> Vec<(String, OsString)> + Send>,
    pub(crate) gateways: usize,
    pub(crate) detect: Duration,
    pub(crate) tolerate: Duration,
    /// The kind of its tokens.
    pub(crate) tokens: &'static str,
    /// Whether the token service stands before an authorization server, and does not sign itself.
    pub(crate) is_broker: bool,
    /// Whether gateways ask the token service while they cannot ask the store.
    pub(crate) falls_back: bool,
}

/// Who a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    TokenService,
    /// From zero on.
    Gateway(usize),
}

/// One process.
pub(crate) struct Party {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    name: String,
    command_line: Vec<String>,
    environment: Vec<(String, OsString)>,
    running: Mutex<Option<Process>>,
}

/// Clients that a deployment knows: each may revoke no more than ten tokens a second.
pub(crate) const CLIENTS: usize = 8;

impl Plan {
    /// Two gateways, all over a store at that place.
    pub(crate) fn over(scene: &Scene, port: u16) -> Self {
        Self {
            store: Box::new(move |_| format!("url = \"redis://127.0.0.1:{port}\"")),
            environment: Box::new(|_| Vec::new()),
            gateways: 2,
            detect: Duration::from_secs(2),
            tolerate: scene.span(30, 8),
            tokens: "salted",
            is_broker: false,
            falls_back: false,
        }
    }

    /// The same, but for one of them that finds it at another place.
    pub(crate) fn with_detour(scene: &Scene, port: u16, whose: Role, detour: u16) -> Self {
        Self {
            store: Box::new(move |role| {
                let port = if role == whose { detour } else { port };
                format!("url = \"redis://127.0.0.1:{port}\"")
            }),
            ..Self::over(scene, port)
        }
    }
}

impl Deployment {
    /// Starts it, and returns when every process is ready.
    pub(crate) async fn start(scene: &Scene, plan: Plan) -> Self {
        let deployment = Self::prepare(scene, plan).await;
        for party in deployment.parties() {
            party.run().await;
        }
        for party in deployment.parties() {
            party.ready().await;
        }
        deployment
    }

    /// Writes its files, and starts nothing.
    async fn prepare(scene: &Scene, plan: Plan) -> Self {
        let api = Api::start().await;
        let folder = own_folder();
        let secret = Secret::generate(NonZeroU8::MIN).expose();
        let client_secret = base64url::encode(&random::<32>());
        let operator = base64url::encode(&random::<32>());
        for secret in [&*secret, &client_secret, &operator] {
            canary(secret);
        }
        write(folder.path(), "secret", &secret);
        write(folder.path(), "operator", &operator);
        let roles = std::iter::once(Role::TokenService).chain((0..plan.gateways).map(Role::Gateway));
        let mut parties: Vec<Party> = roles
            .map(|role| Party::new(role, folder.path(), &scene.symbolon, (plan.environment)(role)))
            .collect();
        let authorization_server = AuthorizationServer::start(&api.url()).await;
        let issuer = if plan.is_broker {
            authorization_server.address
        } else {
            parties[0].address
        };
        for (number, party) in parties.iter().enumerate() {
            let role = match number {
                0 => Role::TokenService,
                number => Role::Gateway(number - 1),
            };
            let text = configuration(&plan, role, party, issuer, &api.url(), &client_secret);
            write(folder.path(), &format!("{}.toml", party.name), &text);
        }
        let token_service = parties.remove(0);
        Self {
            api,
            authorization_server,
            token_service,
            gateways: parties,
            detect: plan.detect,
            tolerate: plan.tolerate,
            client_secret,
            operator,
            folder,
        }
    }

    /// All processes; the token service is the first.
    pub(crate) fn parties(&self) -> impl Iterator<Item = &Party> {
        std::iter::once(&self.token_service).chain(&self.gateways)
    }

    /// The folder of its files.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What is to be expected while nothing is the matter.
    pub(crate) fn calm(&self) -> Expect {
        Expect::calm(self.gateways.len(), self.detect)
    }

    /// What is to be expected while it comes to itself again.
    pub(crate) fn recovering(&self) -> Expect {
        self.calm().bound(self.detect + self.tolerate)
    }

    /// The same, where only one gateway has to.
    pub(crate) fn recovering_at(&self, gateway: usize) -> Expect {
        let at_gateway = self.recovering().gateways[gateway];
        self.calm().at_gateway(gateway, at_gateway)
    }

    /// What is to be expected of a gateway that is cut off from its store, and from when on.
    pub(crate) fn way_out(&self) -> [(Duration, AtGateway); 4] {
        let bound = self.detect + self.tolerate;
        let at = |seen, unseen| AtGateway { seen, unseen, bound };
        [
            (Duration::ZERO, at(Goes::On, Goes::Either)),
            (ON_ITS_WAY, at(Goes::On, Goes::Out)),
            // Its view may have been old already when it was cut off, on a slow machine.
            (bound / 2, at(Goes::Either, Goes::Out)),
            (bound, at(Goes::Out, Goes::Out)),
        ]
    }
}

/// As long as this an answer of the store may be on its way to a process when the store is gone already.
const ON_ITS_WAY: Duration = Duration::from_secs(2);

impl Party {
    fn new(role: Role, folder: &Path, symbolon: &Path, environment: Vec<(String, OsString)>) -> Self {
        let local = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        let name = match role {
            Role::TokenService => "token-service".to_owned(),
            Role::Gateway(number) => format!("gateway-{number}"),
        };
        let file = folder.join(format!("{name}.toml"));
        Self {
            address: local(),
            admin: local(),
            command_line: vec![
                symbolon.display().to_string(),
                "serve".to_owned(),
                "--config".to_owned(),
                file.display().to_string(),
            ],
            name,
            environment,
            running: Mutex::new(None),
        }
    }

    /// Runs it: anew, if it has run. Returns when it listens.
    pub(crate) async fn run(&self) {
        let running = Process::start(&self.name, Whose::Ours, &self.command_line, &self.environment);
        patiently("the program listens", async || {
            running.log().contains("listening for HTTP/1.1")
        })
        .await;
        *self.running.lock().unwrap() = Some(running);
    }

    /// Waits until it can decide.
    pub(crate) async fn ready(&self) {
        let mut client = Client::to(self.admin);
        patiently("the program is ready", async || {
            client.get("/ready", None).await.0.is(200)
        })
        .await;
    }

    /// Ends it as a crash does.
    pub(crate) fn kill(&self) {
        *self.running.lock().unwrap() = None;
    }

    /// What it has logged since it was started the last time.
    pub(crate) fn log(&self) -> String {
        self.running.lock().unwrap().as_ref().unwrap().log()
    }

    /// How often that stands in its log.
    pub(crate) fn has_logged(&self, text: &str) -> usize {
        self.log().matches(text).count()
    }

    /// What the system says of it (`/proc/<pid>/status`), by the name of the line.
    pub(crate) fn status(&self, name: &str) -> u64 {
        self.running.lock().unwrap().as_ref().unwrap().status(name)
    }

    /// A line of its metrics, by how it begins; zero if it is not there.
    pub(crate) async fn metric(&self, begins: &str) -> f64 {
        let (_, body) = Client::to(self.admin).get("/metrics", None).await;
        let text = String::from_utf8(body.to_vec()).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(begins));
        line.map_or(0.0, |rest| rest.trim().parse().unwrap())
    }
}

fn configuration(
    plan: &Plan,
    role: Role,
    party: &Party,
    issuer: SocketAddr,
    api: &str,
    client_secret: &str,
) -> String {
    let (store, data) = ((plan.store)(role), &party.name);
    let shared = format!(
        "secret = {{ file = \"secret\" }}\n\
         data = \"data-{data}\"\n\
         [store]\nkind = \"redis\"\n{store}\n\
         [admin]\nlisten = \"{}\"\ntoken = {{ file = \"operator\" }}\n\
         [[issuers]]\nissuer = \"http://{issuer}\"\nalgorithms = [\"ES256\"]\ntokens = \"{}\"\n\
         max_lifetime = \"1h\"\n",
        party.admin, plan.tokens
    );
    let fallback = if plan.falls_back {
        format!("fallback = {{ endpoint = \"http://{issuer}/introspect\" }}\n")
    } else {
        String::new()
    };
    match role {
        Role::TokenService if plan.is_broker => format!(
            "{shared}jwks = {{ url = \"http://{issuer}/jwks\" }}\n\
             [token_service]\nmode = \"endpoint\"\nlisten = \"{}\"\nissuer = \"http://{issuer}\"\n",
            party.address
        ),
        Role::TokenService => {
            let hash = base64url::encode(&sha256(client_secret.as_bytes()));
            let clients = (0..CLIENTS).map(|number| {
                format!(
                    "[[token_service.clients]]\nid = \"client-{number}\"\nsecret_sha256 = \"{hash}\"\n\
                     audiences = [\"{api}\"]\n"
                )
            });
            format!(
                "{shared}[token_service]\nmode = \"mint\"\nlisten = \"{issuer}\"\nissuer = \"http://{issuer}\"\n\
                 lifetime = \"30m\"\n{}",
                clients.collect::<String>()
            )
        }
        Role::Gateway(_) => format!(
            "{shared}jwks = {{ url = \"http://{issuer}/jwks\" }}\n\
             [gateway]\nlisten = \"{}\"\nrevocation = {{ detect = \"{}ms\", tolerate = \"{}ms\" }}\n{fallback}\
             [[gateway.routes]]\npath = \"/orders\"\nresource_server = \"{api}\"\naudience = \"{api}\"\n",
            party.address,
            plan.detect.as_millis(),
            plan.tolerate.as_millis()
        ),
    }
}

fn write(folder: &Path, name: &str, text: &str) {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}
