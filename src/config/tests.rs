//! Who wins, what is refused, and in which words.

use std::io::Write as _;

use super::layer::Raw;
use super::*;

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn flag(setting: Setting, value: &str) -> Layer {
    let mut layer = Layer::default();
    layer.flag_text(setting, Some(&value.to_owned()));
    layer
}

/// Resolves a file's text alone and gives the message.
fn refusal(text: &str) -> String {
    let layer = match file::parse("weft.toml", text) {
        Ok(layer) => layer,
        Err(error) => return error.to_string(),
    };
    AgentConfig::resolve(&[&layer]).expect_err("must be refused").to_string()
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    writeln!(file, "cluster = \"from-file\"\n\nregion = \"file\"\nzone = \"file\"").expect("write");
    let flags = flag(Setting::Zone, "flag");
    let vars = env(&[("WEFT_REGION", "env"), ("WEFT_ZONE", "env"), ("WEFT_PORT", "tcp://1")]);
    let config = load(&flags, vars, Some(file.path())).expect("valid");
    assert_eq!(config.cluster.value.as_str(), "from-file");
    assert!(config.cluster.origin.to_string().ends_with(":1"));
    assert_eq!(config.region.value.as_str(), "env");
    assert_eq!(config.region.origin.to_string(), "WEFT_REGION");
    assert_eq!(config.zone.value.as_str(), "flag");
    assert_eq!(config.zone.origin.to_string(), "--zone");
    assert_eq!(config.log.origin.to_string(), "default");
}

#[test]
fn lists_come_from_one_source_only() {
    let layer = file::parse("f", "seed = [\"a:1\", \"b:2\"]").expect("valid");
    let vars = environment::read(env(&[("WEFT_SEED", " c:3 , 10.0.0.1:4,")])).expect("valid");
    let config = AgentConfig::resolve(&[&vars, &layer]).expect("valid");
    assert_eq!(config.seeds.value, ["c:3", "10.0.0.1:4"]);
}

#[test]
fn an_empty_variable_is_not_set() {
    let vars = environment::read(env(&[("WEFT_ADVERTISE", ""), ("WEFT_INSECURE", " ")]));
    assert_eq!(vars.expect("valid"), Layer::default());
}

#[test]
fn file_mistakes_name_file_line_and_key() {
    let cases = [
        (
            "bind = \"127.0.0.1:1\"\nbnd = 1\n",
            "weft.toml:2: unknown key \"bnd\"; did you mean \"bind\"?",
        ),
        ("\n\nseeds = []", "weft.toml:3: unknown key \"seeds\"; did you mean \"seed\"?"),
        ("bind = 7946", "weft.toml:1: bind must be a string, not an integer"),
        ("seed = \"a:1\"", "weft.toml:1: seed must be an array of strings, not a string"),
        (
            "seed = [\"a:1\", 2]",
            "weft.toml:1: seed must be an array of strings only, not an integer",
        ),
        ("insecure = \"yes\"", "weft.toml:1: insecure must be true or false, not a string"),
        (
            "bind = \"localhost:1\"",
            "weft.toml:1: \"localhost:1\" is not an address: write IP:PORT, such as \
             127.0.0.1:7946 or [::1]:7946",
        ),
        (
            "seed = [\"peer\"]",
            "weft.toml:1: seed \"peer\" is not valid: the port is missing; a seed is \"ip:port\", \
             \"[ipv6]:port\", \"host:port\" or \"file:PATH\"",
        ),
        (
            "advertise = \"0.0.0.0:7946\"",
            "weft.toml:1: other peers cannot send to 0.0.0.0:7946: give this host's own IP and port",
        ),
        (
            "bind = \"0.0.0.0:7946\"",
            "weft.toml:1: 0.0.0.0:7946 is not a loopback address and packets are not encrypted: \
             give a key (--key-file), or add --insecure (insecure = true) if the network is trusted",
        ),
        (
            "multicast = \"10.0.0.1:7946\"",
            "weft.toml:1: 10.0.0.1:7946 is not a multicast group and port: IPv4 groups lie in \
             239.0.0.0/8 for private use",
        ),
        (
            "multicast-interface = [\"eth0\"]",
            "weft.toml:1: an interface for multicast, but no group: add --multicast GROUP:PORT",
        ),
        ("log-format = \"xml\"", "weft.toml:1: \"xml\" is not a log format: text or json"),
        (
            "log = \"loud=\"",
            "weft.toml:1: \"loud=\" is not a log filter: write a level (error, warn, info, debug, trace) or TARGET=LEVEL,...",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(refusal(text), expected);
    }
}

#[test]
fn broken_toml_is_one_line() {
    let message = refusal("cluster = \"a\"\nbind = \n");
    assert!(message.starts_with("weft.toml:2: not valid TOML: "), "{message}");
    assert!(!message.contains('\n'));
    let twice = refusal("zone = \"a\"\nzone = \"b\"\n");
    assert!(twice.starts_with("weft.toml:2: not valid TOML: duplicate key"), "{twice}");
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("/nonexistent/weft.toml");
    let error = load(&Layer::default(), env(&[]), Some(path)).expect_err("missing");
    assert_eq!(
        error.to_string(),
        "/nonexistent/weft.toml: cannot read the configuration: No such file or directory (os error 2)"
    );
}

#[test]
fn bad_flags_and_variables_are_named_by_their_source() {
    let error = load(&flag(Setting::Bind, "x"), env(&[]), None).expect_err("bad");
    assert!(error.to_string().starts_with("--bind: \"x\" is not an address"), "{error}");
    let error = load(&Layer::default(), env(&[("WEFT_INSECURE", "maybe")]), None).expect_err("bad");
    assert_eq!(error.to_string(), "WEFT_INSECURE: \"maybe\" is neither true nor false");
}

#[test]
fn secrets_come_from_the_environment_or_a_file_and_are_not_shown() {
    let secret = "0b".repeat(32);
    assert!(refusal(&format!("key = \"{secret}\"")).contains("key-file"));
    assert!(refusal("http-token = \"0123456789abcdef\"").contains("http-token-file"));
    let vars = env(&[("WEFT_KEY", &secret), ("WEFT_BIND", "10.0.0.5:7946")]);
    let config = load(&Layer::default(), vars.clone(), None).expect("a key allows the address");
    assert_eq!(read_keys(&config).expect("valid").len(), 1);
    let shown = format!("{config:?} {}", print(&config, true));
    assert!(!shown.contains("0b0b") && shown.contains("given, not shown"), "{shown}");
    let both = load(&flag(Setting::KeyFile, "/k"), vars, None).expect_err("one of them");
    assert!(both.to_string().starts_with("WEFT_KEY: --key-file names a file"), "{both}");
    let bad = load(&Layer::default(), env(&[("WEFT_KEY", "0b0b")]), None).expect("read later");
    let error = read_keys(&bad).expect_err("too short").to_string();
    assert!(
        error.starts_with("WEFT_KEY: line 1: a key is 64") && !error.contains("0b0b"),
        "{error}"
    );
    let vars = env(&[("WEFT_HTTP_TOKEN", "0123456789abcdef"), ("WEFT_HTTP", "0.0.0.0:7980")]);
    assert!(load(&Layer::default(), vars, None).is_ok(), "a token allows the address");
}

#[test]
fn secrets_come_from_files_that_the_environment_names() {
    use std::os::unix::fs::PermissionsExt as _;
    let secret = |text: &str, mode: u32| {
        let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
        file.write_all(text.as_bytes()).expect("room");
        let mode = std::fs::Permissions::from_mode(mode);
        file.as_file().set_permissions(mode).expect("our own file");
        file
    };
    let key = secret(&"0b".repeat(32), 0o600);
    let token = secret("0123456789abcdef\n", 0o640);
    let read_by_all = secret(&"0c".repeat(32), 0o644);
    let path = |file: &tempfile::NamedTempFile| file.path().display().to_string();
    let vars = env(&[
        ("WEFT_KEY_FILE", &path(&key)),
        ("WEFT_HTTP_TOKEN_FILE", &path(&token)),
        ("WEFT_BIND", "10.0.0.5:7946"),
        ("WEFT_HTTP", "10.0.0.5:7980"),
    ]);
    let config = load(&Layer::default(), vars, None).expect("both addresses are covered");
    assert_eq!(read_keys(&config).expect("valid"), ["0b".repeat(32).parse().expect("a key")]);
    assert!(config.http_token.read(crate::http::Token::new).expect("valid").is_some());
    let vars = env(&[("WEFT_KEY_FILE", &path(&read_by_all))]);
    let config = load(&Layer::default(), vars, None).expect("read later");
    let error = read_keys(&config).expect_err("others can read it").to_string();
    assert!(error.starts_with("WEFT_KEY_FILE: ") && error.contains("chmod 600"), "{error}");
    assert!(!error.contains("0c0c"), "{error}");
}

#[test]
fn an_open_admin_interface_has_to_be_asked_for() {
    assert!(refusal("http = \"0.0.0.0:7980\"").contains("http-insecure"));
    let layer = file::parse("f", "http = \"0.0.0.0:7980\"\nhttp-insecure = true").expect("valid");
    assert!(AgentConfig::resolve(&[&layer]).is_ok());
}

#[test]
fn printed_configuration_reads_back_the_same() {
    let text = "cluster = \"c\"\nname = \"web-1\"\nbind = \"10.0.0.5:1\"\ninsecure = true\n\
                seed = [\"a:1\"]\nhttp = \"off\"\nadvertise = \"10.0.0.5:7\"\nregion = \"eu\"";
    let once = AgentConfig::resolve(&[&file::parse("f", text).expect("valid")]).expect("valid");
    let printed = print(&once, true);
    let twice =
        AgentConfig::resolve(&[&file::parse("f", &printed).expect("valid")]).expect("valid");
    assert_eq!(print(&once, false), print(&twice, false));
}

#[test]
fn print_shows_who_set_what() {
    let mut flags = flag(Setting::Region, "eu");
    flags.set(Setting::Insecure, Raw::Switch(true), layer::Origin::Flag(Setting::Insecure));
    let config = load(&flags, env(&[("WEFT_SEED", "a:1")]), None).expect("valid");
    assert_eq!(
        print(&config, true),
        "\
cluster = \"weft\"                         # default
# name: from the host's name             # default
region = \"eu\"                            # --region
zone = \"\"                                # default
bind = \"127.0.0.1:7946\"                  # default
# advertise: from the bind address       # default
seed = [\"a:1\"]                           # WEFT_SEED
multicast = \"off\"                        # default
multicast-interface = []                 # default
# key: none                              # default
# key-file: none                         # default
insecure = true                          # --insecure
horizon = \"available\"                    # default
http = \"127.0.0.1:7980\"                  # default
# http-token: none                       # default
# http-token-file: none                  # default
http-insecure = false                    # default
log = \"info\"                             # default
log-format = \"text\"                      # default
"
    );
}

#[test]
fn every_setting_has_its_own_key_and_variable() {
    for setting in Setting::ALL {
        assert_eq!(Setting::from_key(setting.key()), Some(setting));
        assert!(setting.variable().starts_with("WEFT_"));
    }
}
