//! `weft members`: who is there.

use std::process::ExitCode;

use clap::Args;

use super::client::{Client, ClientArgs, TimeoutArgs};
use super::exit::{EXIT_CODES_HELP, Failure};
use super::table::{Align, Table};
use crate::http::types::Members;

/// List the peers that an agent knows.
#[derive(Debug, Args)]
#[command(after_long_help = format!(
    "Examples:
  weft members
  weft members --output json | jq -r '.members[] | select(.state == \"alive\") | .name'

{EXIT_CODES_HELP}"
))]
pub(super) struct MembersArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(flatten)]
    timeout: TimeoutArgs,
}

pub(super) fn run(args: &MembersArgs) -> Result<ExitCode, Failure> {
    let client = Client::new(&args.client, args.timeout.timeout)?;
    client.get("/v1/members")?.print(args.client.output, table)?;
    Ok(ExitCode::SUCCESS)
}

fn table(document: &Members) -> String {
    let mut table = Table::new([
        ("NAME", Align::Left),
        ("ADDRESS", Align::Left),
        ("STATE", Align::Left),
        ("REGION", Align::Left),
        ("ZONE", Align::Left),
        ("BOOT", Align::Right),
        ("RTT MS", Align::Right),
    ]);
    for member in &document.members {
        let this = if member.is_self { " (this)" } else { "" };
        table.row([
            format!("{}{this}", member.name),
            member.addr.to_string(),
            member.state.clone(),
            member.region.clone(),
            member.zone.clone(),
            member.boot.to_string(),
            milliseconds(member.round_trip_us),
        ]);
    }
    table.render()
}

/// Three digits behind the point; nothing before the first measurement.
fn milliseconds(us: u64) -> String {
    if us == 0 { String::new() } else { format!("{}.{:03}", us / 1000, us % 1000) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_for_people() {
        let json = r#"{"schema":1,"later":true,"members":[
            {"name":"a","addr":"127.0.0.1:7946","region":"eu","zone":"","boot":3,"state":"alive","self":true},
            {"name":"bb","addr":"127.0.0.1:7947","region":"eu","zone":"z","boot":12,"state":"suspect","self":false,"round_trip_us":1250}]}"#;
        let members: Members = serde_json::from_str(json).expect("valid");
        assert_eq!(
            table(&members),
            "\
NAME      ADDRESS         STATE    REGION  ZONE  BOOT  RTT MS
a (this)  127.0.0.1:7946  alive    eu      -        3       -
bb        127.0.0.1:7947  suspect  eu      z       12   1.250
"
        );
    }
}
