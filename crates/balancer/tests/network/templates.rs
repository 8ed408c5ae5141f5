//! What chat templates from hostile files come to, and what others notice of it.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant, UNIX_EPOCH};

use infera_balancer::{Config, Edges};
use infera_model::gguf::write::GgufBuilder;
use infera_model::rendering::{Limits, RenderError, Renderer};
use infera_model::{ChatMessage, ChatTemplate, Gguf, Head, ModelError};
use infera_protocol::Profile;
use infera_protocol::frame;
use infera_protocol::requirements::Policy;
use infera_testing::{Network, SimNode, Work, chat_body, head, patient};
use serde_json::{Value, json};

const PROGRAM: &str = env!("CARGO_BIN_EXE_infera-balancer");

/// Runs for as long as it may where there are [`many`] messages: steps are counted by those.
const ENDLESS: &str =
    "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";

/// Each with a name, as an error of the test shows it.
static HOSTILE: LazyLock<Vec<(&str, String)>> = LazyLock::new(|| {
    let growing = |step: &str| {
        format!(
            "{{% set ns = namespace(t='xy', l=[1, 2]) %}}{{% for a in range(99) %}}{step}\
             {{% endfor %}}{{{{ ns.t | length }}}}{{{{ ns.l | length }}}}"
        )
    };
    let mut table: Vec<(&str, String)> = [
        ("nested loops", ENDLESS),
        (
            "a long text",
            "{% for a in range(99999) %}{{ 'x' * 99999 }}{% endfor %}",
        ),
        ("repetition", "{{ 'x' * 99999999999 }}"),
        (
            "constants",
            "{{ ('x' * 99999999 ~ 'x' * 99999999 ~ 'x' * 99999999 ~ 'x' * 99999999 \
             ~ 'x' * 99999999 ~ 'x' * 99999999 ~ 'x' * 99999999) | length }}",
        ),
        ("join", "{{ range(99999) | join('x' * 99999) | length }}"),
        (
            "replace",
            "{{ ('a' * 9999999) | replace('a', 'b' * 9999999) | length }}",
        ),
        (
            "replace of nothing",
            "{{ ('a' * 9999999).replace('', 'b' * 9999999) | length }}",
        ),
        (
            "macros",
            "{% macro again(n) %}{{ again(n + 1) ~ again(n) }}{% endmacro %}{{ again(0) }}",
        ),
        (
            "pages",
            "{% for a in ('a' * 99999999) | list | batch(1) %}{{ loop.index }}{% endfor %}",
        ),
        ("format", "{{ '%0999999999d' | format(1) }}"),
        ("format of Python", "{{ '{:>999999999}'.format('x') }}"),
        ("power", "{{ 9 ** 99999999999 }}"),
        (
            "written lists",
            "{{ (range(99999) | list * 999) | tojson | length }}",
        ),
        (
            "indentation",
            "{{ ('x\\n' * 9999999) | indent(99999) | length }}",
        ),
    ]
    .map(|(name, source)| (name, source.to_owned()))
    .into();
    table.extend([
        ("doubled text", growing("{% set ns.t = ns.t ~ ns.t %}")),
        ("added text", growing("{% set ns.t = ns.t + ns.t %}")),
        (
            "joined text",
            growing("{% set ns.t = [ns.t, ns.t] | join %}"),
        ),
        (
            "doubled list",
            growing("{% set ns.l = (ns.l + ns.l) | list %}"),
        ),
        (
            "nested brackets",
            format!("{{{{ {}1 }}}}", "(".repeat(50_000)),
        ),
        ("nested lists", format!("{{{{ {}1 }}}}", "[".repeat(50_000))),
        ("nested ifs", "{% if 1 %}".repeat(20_000)),
        (
            "nested signs",
            format!("{{{{ {}1 }}}}", "-".repeat(250_000)),
        ),
        (
            "a chain of sums",
            format!("{{{{ 'x' * 999 {} }}}}", "~ 'x' * 999".repeat(20_000)),
        ),
    ]);
    table
});

fn template(source: &str) -> ChatTemplate {
    let bytes = GgufBuilder::new()
        .str("tokenizer.chat_template", source)
        .build();
    ChatTemplate::from_gguf(&Gguf::from_bytes(bytes, "hostile.gguf").unwrap()).unwrap()
}

fn honest() -> ChatTemplate {
    template("{% for message in messages %}{{ message.content }}{% endfor %}")
}

fn question() -> [ChatMessage; 1] {
    [ChatMessage::new("user", "Hi")]
}

/// A conversation so long that the evaluator counts no steps worth mentioning.
fn many() -> Vec<ChatMessage> {
    vec![ChatMessage::new("user", "Hi"); 10_000]
}

/// As a request has them.
fn many_messages() -> Value {
    vec![json!({"role": "user", "content": "Hi"}); 10_000].into()
}

fn limits() -> Limits {
    Limits {
        time: Duration::from_secs(1),
        memory_bytes: 128 << 20,
        ..Limits::default()
    }
}

fn render(renderer: &Renderer, template: &ChatTemplate) -> Result<String, RenderError> {
    renderer.render(template, &question(), true, UNIX_EPOCH)
}

fn render_endless(renderer: &Renderer) -> Result<String, RenderError> {
    renderer.render(&template(ENDLESS), &many(), true, UNIX_EPOCH)
}

/// The memory that this process holds, which the balancer of a test runs in.
#[cfg(target_os = "linux")]
fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[test]
fn hostile_templates_end_within_the_limits_and_the_next_chat_works() {
    let renderer = Renderer::of_program(PROGRAM, limits());
    assert_eq!(render(&renderer, &honest()).unwrap(), "Hi");
    for (name, source) in HOSTILE.iter() {
        let begun = Instant::now();
        let outcome = render(&renderer, &template(source));
        let took = begun.elapsed();
        let Err(RenderError::Model(error @ ModelError::BadTemplate { .. })) = outcome else {
            panic!("{name}: {outcome:?}");
        };
        assert!(error.to_string().contains("`hostile.gguf`"), "{error}");
        // Twice the time, for what was ended is tried again, and two starts.
        assert!(took < Duration::from_secs(10), "{name}: {took:?}");
        assert_eq!(render(&renderer, &honest()).unwrap(), "Hi", "after {name}");
    }
}

#[test]
fn a_template_at_its_limits_leaves_the_children_to_the_others() {
    let limits = Limits {
        children: 1,
        ..limits()
    };
    let renderer = Renderer::of_program(PROGRAM, limits);
    let ended = render_endless(&renderer).unwrap_err().to_string();
    assert!(ended.contains("more than 1s"), "{ended}");
    std::thread::scope(|threads| {
        let stuck = threads.spawn(|| render_endless(&renderer));
        while !stuck.is_finished() {
            assert_eq!(render(&renderer, &honest()).unwrap(), "Hi");
        }
        assert!(stuck.join().unwrap().is_err());
    });
}

#[test]
fn a_conversation_waits_for_a_child_only_so_long() {
    let limits = Limits {
        children: 1,
        queue: Duration::from_millis(100),
        time: Duration::from_secs(5),
        ..limits()
    };
    let renderer = Renderer::of_program(PROGRAM, limits);
    // Its start may take longer than anyone waits here.
    assert_eq!(render(&renderer, &honest()).unwrap(), "Hi");
    std::thread::scope(|threads| {
        let stuck = threads.spawn(|| render_endless(&renderer));
        let busy = std::iter::repeat_with(|| render(&renderer, &honest()))
            .take_while(|_| !stuck.is_finished())
            .any(|outcome| matches!(outcome, Err(RenderError::Busy)));
        assert!(busy);
    });
    assert_eq!(render(&renderer, &honest()).unwrap(), "Hi");
}

#[test]
fn what_a_template_refuses_and_where_it_fails_is_told_as_without_a_child() {
    let renderer = Renderer::of_program(PROGRAM, limits());
    for source in [
        "{{ raise_exception('Roles must alternate.') }}",
        "fine\n{% for %}",
        "{{ 1 / messages }}",
        "{{ bos_token ~ strftime_now('%Y') ~ messages[0]['content'] }}",
    ] {
        let told = |outcome: Result<String, RenderError>| {
            outcome.map_err(|error| (error.to_string(), format!("{error:?}")))
        };
        let here = told(render(&Renderer::here(), &template(source)));
        assert_eq!(told(render(&renderer, &template(source))), here);
    }
}

#[test]
fn a_program_that_cannot_apply_templates_is_named() {
    for program in ["nowhere", "/bin/true", "/bin/cat"] {
        let error = render(&Renderer::of_program(program, limits()), &honest()).unwrap_err();
        assert!(matches!(error, RenderError::Start(_)), "{error}");
    }
}

/// With limits, and a template that runs on.
fn busy_child() -> std::process::Child {
    let mut child = Command::new(PROGRAM)
        .arg("render")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let limits = json!({"limits": {"memory_bytes": 1 << 30, "seconds": 600}});
    let endless = json!({"render": {
        "template": {"file": "x", "source": ENDLESS, "bos": "", "eos": ""},
        "messages": many(),
        "add_generation_prompt": true,
        "now_ms": 0,
    }});
    let input = child.stdin.as_mut().unwrap();
    input.write_all(&frame::encode(&limits).unwrap()).unwrap();
    let mut ready = [0; 11];
    child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut ready)
        .unwrap();
    assert_eq!(ready[4..], *b"\"ready\"");
    let input = child.stdin.as_mut().unwrap();
    input.write_all(&frame::encode(&endless).unwrap()).unwrap();
    child
}

#[test]
fn a_child_ends_with_its_parent_whatever_it_works_on() {
    let mut child = busy_child();
    assert_eq!(child.try_wait().unwrap(), None);
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
}

#[cfg(unix)]
#[test]
fn a_child_sees_nothing_of_the_environment() {
    use std::os::unix::fs::PermissionsExt;

    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    std::fs::write(&program, "#!/bin/sh\nenv > \"${0%program}seen\"\n").unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    let error = render(&Renderer::of_program(&program, limits()), &honest()).unwrap_err();
    assert!(matches!(error, RenderError::Start(_)), "{error}");
    let seen = std::fs::read_to_string(folder.path().join("seen")).unwrap();
    assert!(std::env::vars().count() > 5);
    assert!(!seen.contains("CARGO") && !seen.contains("HOME"), "{seen}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_child_that_something_else_has_killed_is_replaced_unnoticed() {
    let renderer = Renderer::of_program(PROGRAM, limits());
    for _ in 0..3 {
        assert_eq!(render(&renderer, &honest()).unwrap(), "Hi");
        let parent = std::process::id().to_string();
        let children: Vec<String> = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| {
                let stat = std::fs::read_to_string(entry.ok()?.path().join("stat")).ok()?;
                let after_name = stat.rsplit(')').next()?;
                let is_child = after_name.split(' ').nth(2) == Some(&*parent);
                is_child.then(|| stat.split(' ').next().map(str::to_owned))?
            })
            .collect();
        assert_eq!(children.len(), 1, "one is warm");
        let killed = Command::new("kill").arg("-9").arg(&children[0]).status();
        assert!(killed.unwrap().success());
    }
}

/// The test model with another chat template.
fn head_with(source: &str) -> Head {
    const KEY: &[u8] = b"tokenizer.chat_template";
    let bytes = head().to_bytes();
    let key = bytes
        .windows(KEY.len())
        .position(|window| window == KEY)
        .unwrap();
    // After the key come the type (u32), the length (u64) and the text.
    let length = key + KEY.len() + 4;
    let text = length + 8;
    let old = u64::from_le_bytes(bytes[length..text].try_into().unwrap()) as usize;
    let new = [
        &bytes[..length],
        &(source.len() as u64).to_le_bytes(),
        source.as_bytes(),
        &bytes[text + old..],
    ];
    Head::from_bytes(&new.concat()).unwrap()
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_hostile_model_fails_its_own_chats_and_costs_the_balancer_nothing() {
    let edges = || Edges::system().with_renderer(Renderer::of_program(PROGRAM, limits()));
    let network = Network::start_at_edges(patient(), Policy::practice(), edges).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    let doubling = "{% set ns = namespace(t='x') %}{% for a in range(99) %}\
                    {% set ns.t = ns.t ~ ns.t %}{% endfor %}";
    for (name, source) in [("endless", ENDLESS), ("doubling", doubling)] {
        network.add(&head_with(source), Profile::P32, name).await;
    }
    let (status, _) = network.chat(&json!({})).await.unwrap();
    assert_eq!(status, 200);
    let before = resident_bytes();
    for round in 0..3 {
        let hostile = ["endless", "doubling"]
            .map(|name| network.chat(&json!({"model": name, "messages": many_messages()})));
        let others = network.key(&format!("other-{round}"), None).await;
        let response = network
            .post_as(&others, "/v1/chat/completions", &chat_body(&json!({})))
            .await;
        assert_eq!(response.status(), 200);
        for answer in hostile {
            let (status, body) = answer.await.unwrap();
            let error = &body["error"];
            assert_eq!(
                (status, &error["code"]),
                (500, &json!("model_template_failed"))
            );
            let message = error["message"].as_str().unwrap();
            assert!(message.contains("model's file is at fault"), "{message}");
        }
    }
    let grown = resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more than before");
    assert_eq!(network.chat(&json!({})).await.unwrap().0, 200);
}

/// A key's own requests wait for each other, those of other keys do not.
#[tokio::test(flavor = "multi_thread")]
async fn one_key_reads_one_text_at_a_time() {
    const LONG: Duration = Duration::from_secs(5);
    let edges = || {
        let limits = Limits {
            time: LONG,
            ..limits()
        };
        Edges::system().with_renderer(Renderer::of_program(PROGRAM, limits))
    };
    let network = Network::start_at_edges(patient(), Policy::practice(), edges).await;
    SimNode::worker(&network, 1)
        .await
        .spawn_worker(Work::honest);
    network
        .add(&head_with(ENDLESS), Profile::P32, "endless")
        .await;
    let stuck = network.chat(&json!({"model": "endless", "messages": many_messages()}));
    let other = network.key("other", None).await;
    let body = chat_body(&json!({}));
    let timed = async |answer: &mut (dyn Future<Output = u16> + Unpin)| {
        let begun = Instant::now();
        assert_eq!(answer.await, 200);
        begun.elapsed()
    };
    let mut waited = Duration::ZERO;
    // The long conversation may come in after the first of these.
    while !stuck.is_finished() {
        let mut of_other = Box::pin(async {
            let answer = network.post_as(&other, "/v1/chat/completions", &body).await;
            answer.status().as_u16()
        });
        let mut of_same = Box::pin(async { network.chat(&json!({})).await.unwrap().0 });
        let (of_other, of_same) = tokio::join!(timed(&mut of_other), timed(&mut of_same));
        assert!(of_other < LONG / 2, "the other key waited");
        waited = waited.max(of_same);
    }
    assert!(waited >= LONG / 2, "the same key did not wait");
    assert_eq!(stuck.await.unwrap().0, 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_that_cannot_fit_is_beyond_the_context_wherever_it_stands() {
    let network = Network::start(Config::default()).await;
    network.add_embedder().await;
    let digits = "7".repeat(4_000_000);
    let of = |field: &str, model: &str| json!({"model": model, field: digits});
    let messages = json!([{"role": "user", "content": digits}]);
    for (path, body) in [
        (
            "chat/completions",
            chat_body(&json!({"messages": messages})),
        ),
        ("completions", of("prompt", infera_testing::MODEL)),
        ("embeddings", of("input", infera_testing::EMBEDDER)),
    ] {
        let response = network.post(&format!("/v1/{path}"), &body).await;
        assert_eq!(response.status(), 400, "{path}");
        let body: serde_json::Value = response.json().await.unwrap();
        assert_eq!(body["error"]["code"], "context_length_exceeded", "{path}");
    }
}
