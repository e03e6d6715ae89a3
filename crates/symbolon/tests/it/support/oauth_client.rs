//! Clients of an authorization server, or of a broker before one, each by a library of others or by curl.

use std::io::Write as _;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use symbolon_core::{base64url, random, sha256};
use url::Url;

use super::foreign::{Puppet, is_there, root};
use super::{Browser, canary, form, free_port, output};

/// Of every client that has one.
pub const SECRET: &str = "canary-client-secret-8d07";

/// What does a client's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Library {
    Curl,
    OpenidClient,
    Authlib,
}

/// What came of asking for something.
pub type Told = Result<Value, Refused>;

/// What a refused client hears of it; libraries do not tell everything.
#[derive(Debug, PartialEq, Eq)]
pub struct Refused {
    pub status: Option<u64>,
    pub error: Option<String>,
}

/// A library that knows an issuer by its metadata.
#[derive(Clone)]
pub struct OauthClients {
    by: Arc<By>,
}

/// A registered client there.
pub struct OauthClient {
    id: String,
    secret: Option<&'static str>,
    by: Arc<By>,
}

enum By {
    Curl(Curl),
    Puppet(Puppet),
}

/// What a client does. A log-in and a device take two acts, with a user between them.
enum Act<'a> {
    ClientCredentials { scope: &'a str },
    BeginLogIn { scope: &'a str, redirect_uri: &'a str },
    EndLogIn { callback: &'a str },
    ReadIdToken,
    BeginDevice { scope: &'a str },
    EndDevice,
    Refresh { token: &'a str },
    Revoke { token: &'a str },
    Userinfo { token: &'a str },
    Introspect { token: &'a str },
}

impl Library {
    pub const ALL: [Self; 3] = [Self::Curl, Self::OpenidClient, Self::Authlib];

    /// What others call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Curl => "curl",
            Self::OpenidClient => "openid-client",
            Self::Authlib => "Authlib",
        }
    }

    fn start(self) -> Option<Puppet> {
        let (tool, program) = match self {
            Self::Curl => return None,
            Self::OpenidClient => {
                let folder = root().join("tests/clients/node");
                is_there(&folder.join("node_modules/openid-client/package.json")).then_some(())?;
                ("node".into(), folder.join("client.js"))
            }
            Self::Authlib => {
                let python = root().join(".tools/python/bin/python");
                is_there(&python).then_some(())?;
                (python, root().join("tests/clients/python/client.py"))
            }
        };
        Some(Puppet::start(tool, &program, output::file("client")))
    }
}

impl OauthClients {
    /// Clients of an issuer by that library. Those that were told of a broker at that address ask it for tokens, and
    /// know the server for all else. None if this test run does without the library.
    pub async fn discover(library: Library, issuer: &str, broker: Option<SocketAddr>) -> Option<Self> {
        let instead = broker.map_or_else(
            || json!({}),
            |at| {
                json!({
                    "token_endpoint": format!("http://{at}/token"),
                    "revocation_endpoint": format!("http://{at}/revoke"),
                    "userinfo_endpoint": format!("http://{at}/userinfo"),
                    "introspection_endpoint": format!("http://{at}/introspect"),
                })
            },
        );
        let by = if library == Library::Curl {
            By::Curl(Curl::discover(issuer, instead).await)
        } else {
            let puppet = library.start()?;
            let what = json!({ "act": "discover", "issuer": issuer, "instead": instead });
            assert_eq!(puppet.tell(what).await, json!({ "told": null }));
            By::Puppet(puppet)
        };
        Some(Self { by: Arc::new(by) })
    }

    /// The library's version.
    pub async fn version(&self) -> String {
        match &*self.by {
            By::Curl(_) => Curl::version(),
            By::Puppet(puppet) => {
                let told = puppet.tell(json!({ "act": "version" })).await;
                told["told"].as_str().unwrap().to_owned()
            }
        }
    }

    /// A client with a secret.
    pub fn confidential(&self, id: &str) -> OauthClient {
        canary(SECRET);
        self.client(id, Some(SECRET))
    }

    /// A client without.
    pub fn public(&self, id: &str) -> OauthClient {
        self.client(id, None)
    }

    fn client(&self, id: &str, secret: Option<&'static str>) -> OauthClient {
        OauthClient {
            id: id.to_owned(),
            secret,
            by: self.by.clone(),
        }
    }
}

impl OauthClient {
    /// Asks for a token as itself.
    pub async fn client_credentials(&self, scope: &str) -> Told {
        self.does(Act::ClientCredentials { scope }).await
    }

    /// Asks for a token as Alice, who logs in and allows it (code, with PKCE).
    pub async fn log_in(&self, browser: Browser, scope: &str) -> Told {
        let redirect_uri = &format!("http://127.0.0.1:{}/callback", free_port());
        let url = self.does(Act::BeginLogIn { scope, redirect_uri }).await?;
        let callback = &browser.open(url.as_str().unwrap()).await;
        assert!(callback.starts_with(redirect_uri), "it ended at {callback}");
        canary(&parameter(callback, "code"));
        self.does(Act::EndLogIn { callback }).await
    }

    /// The claims of the ID token that came with the last log-in. Curl reads none.
    pub async fn read_id_token(&self) -> Told {
        self.does(Act::ReadIdToken).await
    }

    /// Asks for a token as Alice, who allows it on another device.
    pub async fn device(&self, browser: Browser, scope: &str) -> Told {
        let url = self.does(Act::BeginDevice { scope }).await?;
        browser.open(url.as_str().unwrap()).await;
        self.does(Act::EndDevice).await
    }

    /// Asks for the next token of a grant.
    pub async fn refresh(&self, token: &str) -> Told {
        self.does(Act::Refresh { token }).await
    }

    /// Revokes a token.
    pub async fn revoke(&self, token: &str) -> Told {
        self.does(Act::Revoke { token }).await
    }

    /// Asks who the user is.
    pub async fn userinfo(&self, token: &str) -> Told {
        self.does(Act::Userinfo { token }).await
    }

    /// Asks what a token says.
    pub async fn introspect(&self, token: &str) -> Told {
        self.does(Act::Introspect { token }).await
    }

    /// Asks for a token, in whatever way these parameters say. Curl alone does.
    pub async fn token(&self, parameters: &[(&str, &str)]) -> Told {
        let By::Curl(curl) = &*self.by else {
            panic!("no library knows them")
        };
        heard(curl.post(self, "token_endpoint", parameters).await)
    }

    async fn does(&self, act: Act<'_>) -> Told {
        heard(match &*self.by {
            By::Curl(curl) => curl.does(self, act).await,
            By::Puppet(puppet) => {
                let client = json!({ "id": self.id, "secret": self.secret });
                told(&puppet.tell(act.for_client(client)).await)
            }
        })
    }
}

impl Act<'_> {
    /// As the programs in `tests/clients` are told it.
    fn for_client(self, client: Value) -> Value {
        let mut told = match self {
            Self::ClientCredentials { scope } => json!({ "act": "client_credentials", "scope": scope }),
            Self::BeginLogIn { scope, redirect_uri } => {
                json!({ "act": "begin_log_in", "scope": scope, "redirect_uri": redirect_uri })
            }
            Self::EndLogIn { callback } => json!({ "act": "end_log_in", "callback": callback }),
            Self::ReadIdToken => json!({ "act": "read_id_token" }),
            Self::BeginDevice { scope } => json!({ "act": "begin_device", "scope": scope }),
            Self::EndDevice => json!({ "act": "end_device" }),
            Self::Refresh { token } => json!({ "act": "refresh", "token": token }),
            Self::Revoke { token } => json!({ "act": "revoke", "token": token }),
            Self::Userinfo { token } => json!({ "act": "userinfo", "token": token }),
            Self::Introspect { token } => json!({ "act": "introspect", "token": token }),
        };
        told["client"] = client;
        told
    }
}

fn told(answer: &Value) -> Told {
    let Some(refused) = answer.get("refused") else {
        return Ok(answer["told"].clone());
    };
    Err(Refused {
        status: refused["status"].as_u64(),
        error: refused["error"].as_str().map(str::to_owned),
    })
}

/// Notes the secrets that it brought.
fn heard(told: Told) -> Told {
    if let Ok(answer) = &told {
        for name in ["access_token", "refresh_token", "id_token"] {
            if let Some(token) = answer[name].as_str() {
                canary(token);
            }
        }
    }
    told
}

/// The value of a parameter in a URL; empty if it is not there.
fn parameter(url: &str, name: &str) -> String {
    let url = Url::parse(url).unwrap();
    let value = url.query_pairs().find(|(found, _)| found == name);
    value.map_or_else(String::new, |(_, value)| value.into_owned())
}

/// What somebody at a shell does.
struct Curl {
    metadata: Value,
    begun: Mutex<Begun>,
}

/// What they have to remember of the last log-in and the last device.
#[derive(Clone, Default)]
struct Begun {
    redirect_uri: String,
    verifier: String,
    state: String,
    device_code: String,
    interval: u64,
}

impl Curl {
    async fn discover(issuer: &str, instead: Value) -> Self {
        let url = format!("{issuer}/.well-known/openid-configuration");
        let mut metadata = Self::run(&url, Vec::new()).await.unwrap();
        assert_eq!(metadata["issuer"], issuer);
        for (member, place) in instead.as_object().unwrap() {
            metadata[member] = place.clone();
        }
        Self {
            metadata,
            begun: Mutex::default(),
        }
    }

    async fn does(&self, client: &OauthClient, act: Act<'_>) -> Told {
        match act {
            Act::ClientCredentials { scope } => {
                let parameters = [("grant_type", "client_credentials"), ("scope", scope)];
                self.post(client, "token_endpoint", &parameters).await
            }
            Act::BeginLogIn { scope, redirect_uri } => {
                Ok(self.begin_log_in(client, scope, redirect_uri).into())
            }
            Act::EndLogIn { callback } => self.end_log_in(client, callback).await,
            Act::ReadIdToken => panic!("it reads none"),
            Act::BeginDevice { scope } => self.begin_device(client, scope).await,
            Act::EndDevice => {
                let interval = self.begun.lock().unwrap().interval;
                tokio::time::sleep(Duration::from_secs(interval)).await;
                self.end_device(client).await
            }
            Act::Refresh { token } => {
                let parameters = [("grant_type", "refresh_token"), ("refresh_token", token)];
                self.post(client, "token_endpoint", &parameters).await
            }
            Act::Revoke { token } => {
                self.post(client, "revocation_endpoint", &[("token", token)])
                    .await
            }
            Act::Introspect { token } => {
                self.post(client, "introspection_endpoint", &[("token", token)])
                    .await
            }
            Act::Userinfo { token } => {
                let bearer = vec![("oauth2-bearer", token.to_owned())];
                Self::run(self.place("userinfo_endpoint"), bearer).await
            }
        }
    }

    fn begin_log_in(&self, client: &OauthClient, scope: &str, redirect_uri: &str) -> String {
        let mut begun = self.begun.lock().unwrap();
        redirect_uri.clone_into(&mut begun.redirect_uri);
        begun.verifier = base64url::encode(&random::<32>());
        begun.state = base64url::encode(&random::<16>());
        let request = form(&[
            ("client_id", &client.id),
            ("response_type", "code"),
            ("scope", scope),
            ("redirect_uri", redirect_uri),
            (
                "code_challenge",
                &base64url::encode(&sha256(begun.verifier.as_bytes())),
            ),
            ("code_challenge_method", "S256"),
            ("state", &begun.state),
        ]);
        format!("{}?{request}", self.place("authorization_endpoint"))
    }

    async fn end_log_in(&self, client: &OauthClient, callback: &str) -> Told {
        let begun = self.begun.lock().unwrap().clone();
        let came = |name| parameter(callback, name);
        assert_eq!(came("error"), "");
        assert_eq!(came("state"), begun.state);
        assert_eq!(came("iss"), self.metadata["issuer"]);
        let parameters = [
            ("grant_type", "authorization_code"),
            ("code", &came("code")),
            ("redirect_uri", &begun.redirect_uri),
            ("code_verifier", &begun.verifier),
        ];
        self.post(client, "token_endpoint", &parameters).await
    }

    async fn begin_device(&self, client: &OauthClient, scope: &str) -> Told {
        let endpoint = "device_authorization_endpoint";
        let answer = self.post(client, endpoint, &[("scope", scope)]).await?;
        {
            let mut begun = self.begun.lock().unwrap();
            answer["device_code"]
                .as_str()
                .unwrap()
                .clone_into(&mut begun.device_code);
            begun.interval = answer["interval"].as_u64().unwrap_or(0);
        }
        let pending = self.end_device(client).await.unwrap_err();
        assert_eq!(pending.error.unwrap(), "authorization_pending");
        Ok(answer["verification_uri_complete"].clone())
    }

    async fn end_device(&self, client: &OauthClient) -> Told {
        let code = self.begun.lock().unwrap().device_code.clone();
        let parameters = [
            ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
            ("device_code", &code),
        ];
        self.post(client, "token_endpoint", &parameters).await
    }

    async fn post(&self, client: &OauthClient, endpoint: &str, parameters: &[(&str, &str)]) -> Told {
        let id = &client.id;
        let mut options = vec![match client.secret {
            Some(secret) => ("user", format!("{id}:{secret}")),
            None => ("data-urlencode", format!("client_id={id}")),
        }];
        let parameter = |(name, value): &(&str, &str)| ("data-urlencode", format!("{name}={value}"));
        options.extend(parameters.iter().map(parameter));
        Self::run(self.place(endpoint), options).await
    }

    fn place(&self, member: &str) -> &str {
        self.metadata[member].as_str().unwrap()
    }

    async fn run(url: &str, mut options: Vec<(&'static str, String)>) -> Told {
        options.push(("url", url.to_owned()));
        options.push(("write-out", "\n%{http_code}".to_owned()));
        let quoted = |text: &str| {
            text.replace('\\', r"\\")
                .replace('"', "\\\"")
                .replace('\n', r"\n")
        };
        let line = |(name, value): &(&str, String)| format!("{name} = \"{}\"\n", quoted(value));
        let settings: String = options.iter().map(line).collect();
        let mut child = Command::new("curl")
            .args([
                "--silent",
                "--show-error",
                "--max-time",
                "180",
                "--noproxy",
                "*",
                "--config",
                "-",
            ])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // A server in this thread may have to answer it.
        let output = tokio::task::spawn_blocking(move || {
            child.stdin.take().unwrap().write_all(settings.as_bytes())?;
            child.wait_with_output()
        });
        let output = output.await.unwrap().unwrap();
        assert!(output.status.success(), "{url}: {}", output.status);

        let (body, status) = std::str::from_utf8(&output.stdout)
            .unwrap()
            .rsplit_once('\n')
            .unwrap();
        let body = serde_json::from_str(body).unwrap_or(Value::Null);
        let status: u64 = status.parse().unwrap();
        if (200..300).contains(&status) {
            return Ok(body);
        }
        Err(Refused {
            status: Some(status),
            error: body["error"].as_str().map(str::to_owned),
        })
    }

    fn version() -> String {
        let output = Command::new("curl").arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    }
}
