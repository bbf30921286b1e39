//! The command line as a whole: it is consistent, and its help says what it must.

use clap::CommandFactory as _;

use super::*;

fn parse(line: &str) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(line.split_whitespace())
}

#[test]
fn definitions_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn lines_that_must_parse() {
    for line in [
        "weft agent",
        "weft agent --name a --seed a:1 --seed file:/x --insecure --http off --log-format json",
        "weft agent --insecure=false --http-insecure",
        "weft members --agent http://127.0.0.1:1 --output json --timeout 500ms",
        "weft status -o json",
        "weft invalidate k",
        "weft invalidate --namespace users k1 k2",
        "weft invalidate --stdin",
        "weft watch --namespace n --key k --count 3",
        "weft wait --members 5 --timeout 10",
        "weft check",
        "weft forget worker-7 --timeout 2s",
        "weft agent --horizon strict",
        "weft config print --origin --region eu",
        "weft config check weft.toml",
        "weft keys new",
        "weft keys list -o json",
        "weft keys add new.key",
        "weft keys use 127547f7",
        "weft keys drop 127547f7 --token-file t",
        "weft agent --key-file weft.key",
        "weft demo",
    ] {
        parse(line).map(|_| ()).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn lines_that_must_not() {
    for line in [
        "weft",
        "weft invalidate",
        "weft agent --sed a:1",
        "weft agent extra",
        "weft agent --key secret",
        "weft wait --timeout never",
        "weft members --output xml",
        "weft members --agent https://127.0.0.1",
    ] {
        assert_eq!(parse(line).expect_err(line).exit_code(), i32::from(exit::USAGE), "{line}");
    }
}

#[test]
fn every_long_help_lists_the_exit_codes() {
    let command = Cli::command();
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        if sub.get_name() == "demo" {
            continue;
        }
        let help = sub.clone().render_long_help().to_string();
        assert!(help.contains("Exit codes:"), "{}", sub.get_name());
    }
    assert!(command.clone().render_long_help().to_string().contains("Exit codes:"));
}

#[test]
fn short_help_is_a_page() {
    for sub in Cli::command().get_subcommands() {
        let lines = sub.clone().render_help().to_string().lines().count();
        assert!(lines <= 60, "{} has {lines} lines", sub.get_name());
    }
}
