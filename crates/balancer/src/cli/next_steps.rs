//! What an operator does next: what the network lacks, how nodes join, and a first request.

use std::fmt::Write as _;
use std::path::Path;

use infera_protocol::node_api::Checking;

use super::{CliError, quoted};
use crate::catalog::Catalog;
use crate::config::Config;
use crate::db::Database;
use crate::edges::Edges;
use crate::invitations::{self, InvitationRow};
use crate::server::Address;
use crate::{keys, store};

/// A network that has just begun to listen, as its operator's commands have to name it.
pub(super) struct Standpoint<'a> {
    pub config: &'a Config,
    pub address: Address,
    /// ` --data FOLDER`, where the operator named one.
    pub data_option: &'a str,
    /// A key that was just made.
    pub key: Option<&'a str>,
    /// It has just begun, and invitations for all that it lacks were shown.
    pub is_new: bool,
    /// A certificate that no authority signed.
    pub own_certificate: Option<&'a Path>,
}

pub(super) async fn next_steps(
    database: &Database,
    here: &Standpoint<'_>,
) -> Result<String, CliError> {
    let catalog = Catalog::default();
    catalog.refresh(database).await?;
    let model = catalog.list().first().map(|model| model.name.clone());
    let keys = keys::list(database).await?;
    let has_key = keys.iter().any(|key| key.revoked_ms.is_none());
    let call = |command: &str| format!("infera-balancer{} {command}", here.data_option);
    let invites = here.config.address.is_some();
    let url = here.url();
    let mut steps = Vec::new();
    if model.is_none() {
        steps.push((
            "Serve a model".to_owned(),
            call("model add FILE.gguf --name NAME --input-price 100 --output-price 400"),
        ));
    }
    if !has_key {
        steps.push(("Make an API key".to_owned(), call("key create ME")));
    }
    let join = if invites {
        "infera join 'LINK'".to_owned()
    } else {
        format!("infera run --balancer {url} --model FILE.gguf")
    };
    steps.push(("Let nodes join, each on its machine".to_owned(), join));
    if !here.is_new {
        steps.extend(lacking_nodes(database, here, &call).await?);
    }
    let name = serde_json::Value::from(model.as_deref().unwrap_or("NAME"));
    let body =
        format!(r#"{{"model": {name}, "messages": [{{"role": "user", "content": "Hello"}}]}}"#);
    let certificate = here.own_certificate.map_or_else(String::new, |file| {
        format!(" --cacert {}", quoted(&file.to_string_lossy()))
    });
    steps.push((
        "Ask something".to_owned(),
        format!(
            "curl{certificate} {url}/v1/chat/completions -H 'Authorization: Bearer {}' -H 'Content-Type: application/json' -d {}",
            here.key.unwrap_or("KEY"),
            quoted(&body)
        ),
    ));
    let mut text = "What to do next, in another terminal:\n".to_owned();
    for (number, (what, command)) in (1..).zip(steps) {
        let _: std::fmt::Result = writeln!(text, "{number}. {what}:\n   {command}");
    }
    Ok(text)
}

/// Nodes that the network's way of checking asks for and that are not named yet.
async fn lacking_nodes(
    database: &Database,
    here: &Standpoint<'_>,
    call: &impl Fn(&str) -> String,
) -> Result<Option<(String, String)>, CliError> {
    let nodes = store::nodes(database).await?;
    let needed = here.config.references;
    let references = nodes.iter().filter(|node| node.reference).count();
    Ok(match here.config.checking {
        Checking::Always if references < needed => {
            let given_out = invitations::list(database).await?;
            let now_ms = Edges::system().now_ms();
            let open = |row: &InvitationRow| row.standing.reference && row.fault(now_ms).is_none();
            // A new one each time would leave links behind that nobody knows of.
            let command = if given_out.iter().any(open) {
                call("invite list")
            } else if here.config.address.is_some() {
                call(&format!("invite create --reference --uses {needed}"))
            } else {
                call("node trust NODE --reference")
            };
            Some((
                format!(
                    "Have answers checked: {needed} nodes have to, and {references} are named. Until they are here, answers say what they wait for"
                ),
                command,
            ))
        }
        Checking::None if !nodes.iter().all(|node| node.trusted) => Some((
            "Trust the nodes that get no jobs yet (`node list` says which)".to_owned(),
            call("node trust NODE"),
        )),
        Checking::Always | Checking::None => None,
    })
}

impl Standpoint<'_> {
    /// Where others find the server: its own name stands for all of a machine's addresses.
    fn url(&self) -> String {
        let socket = self.address.socket;
        if let Some(address) = &self.config.address {
            address.clone()
        } else if socket.ip().is_unspecified() {
            let scheme = if self.address.tls { "https" } else { "http" };
            format!("{scheme}://THIS-MACHINE:{}", socket.port())
        } else {
            self.address.to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use infera_protocol::node_api::Standing;

    use super::*;
    use crate::invitations::Terms;

    #[tokio::test]
    async fn a_new_network_is_told_what_it_lacks() {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::open(folder.path()).await.unwrap();
        let said = async |listen: &str, tls, config: &Config, key: Option<&str>| {
            let here = Standpoint {
                config,
                address: Address {
                    socket: listen.parse().unwrap(),
                    tls,
                },
                data_option: " --data x",
                key,
                is_new: key.is_some(),
                own_certificate: key.map(|_| Path::new("/a b/it.pem")),
            };
            next_steps(&database, &here).await.unwrap()
        };
        let config = Config::default();
        let text = said("127.0.0.1:8431", false, &config, None).await;
        for step in [
            "infera-balancer --data x model add",
            "infera-balancer --data x key create",
            "infera run --balancer http://127.0.0.1:8431",
            "node trust NODE --reference",
            "curl http://127.0.0.1:8431/v1/chat/completions",
        ] {
            assert!(text.contains(step), "{text}");
        }
        keys::create_key(&database, &Edges::system(), "ann", None)
            .await
            .unwrap();
        let text = said("0.0.0.0:443", true, &config, None).await;
        assert!(!text.contains("key create"), "{text}");
        assert!(text.contains("https://THIS-MACHINE:443"), "{text}");
        let invites = Config {
            address: Some("https://net.example".to_owned()),
            ..Config::default()
        };
        let text = said("0.0.0.0:443", true, &invites, Some("sk-1")).await;
        for step in [
            "infera join 'LINK'",
            "curl --cacert '/a b/it.pem' https://net.example/v1/chat/completions",
            "Bearer sk-1",
        ] {
            assert!(text.contains(step), "{text}");
        }
        assert!(
            !text.contains("--reference"),
            "its invitation was just shown: {text}"
        );
        let text = said("0.0.0.0:443", true, &invites, None).await;
        assert!(
            text.contains("invite create --reference --uses 2"),
            "{text}"
        );
        let checks = Terms {
            standing: Standing {
                trusted: false,
                reference: true,
            },
            ..Terms::default()
        };
        invitations::create(&database, &Edges::system(), &checks)
            .await
            .unwrap();
        let text = said("0.0.0.0:443", true, &invites, None).await;
        assert!(
            text.contains("invite list") && !text.contains("invite create"),
            "{text}"
        );
        let unchecked = Config {
            checking: Checking::None,
            ..invites
        };
        let text = said("0.0.0.0:443", true, &unchecked, None).await;
        assert!(
            !text.contains("node trust") && !text.contains("--reference"),
            "{text}"
        );
        crate::untrust(&database, infera_protocol::NodeId::from_bytes([1; 32]))
            .await
            .unwrap();
        let text = said("0.0.0.0:443", true, &unchecked, None).await;
        assert!(text.contains("node trust NODE"), "{text}");
    }
}
