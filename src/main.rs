//! The `weft` binary. Everything it does is in the library, in `cli`.

use std::process::ExitCode;

fn main() -> ExitCode {
    weft::cli::main()
}
