//! x

#[cfg(test)]
mod cli;
