//! The `ratekitty` program; see [`ratekitty::cli`].

use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    match ratekitty::cli::run(std::env::args_os()) {
        Ok(code) => code,
        Err(error) => {
            // Nothing is left to tell of a failure to tell.
            let _ = writeln!(io::stderr(), "ratekitty: {}", ratekitty::cli::describe(&error));
            ExitCode::FAILURE
        }
    }
}
