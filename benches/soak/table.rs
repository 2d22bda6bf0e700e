//! The table: what was measured, which bar it has to meet, and whether it does.

use std::fmt;

/// A line of it.
#[derive(Debug)]
struct Row {
    name: String,
    figure: String,
    /// The bar, and whether it is met; none for what only informs.
    bar: Option<(String, bool)>,
}

/// All lines.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Row>);

impl Table {
    /// A figure that only informs.
    pub(crate) fn tell(&mut self, name: &str, figure: impl fmt::Display) {
        self.0.push(Row { name: name.to_owned(), figure: figure.to_string(), bar: None });
    }

    /// A figure with its bar.
    pub(crate) fn hold(&mut self, name: &str, figure: impl fmt::Display, bar: &str, is_met: bool) {
        let bar = Some((bar.to_owned(), is_met));
        self.0.push(Row { name: name.to_owned(), figure: figure.to_string(), bar });
    }

    /// A number that has to be 0.
    pub(crate) fn hold_zero(&mut self, name: &str, number: impl Into<u64>) {
        let number = number.into();
        self.hold(name, number, "0", number == 0);
    }

    /// The names of what missed its bar.
    pub(crate) fn missed(&self) -> Vec<&str> {
        let missed = self.0.iter().filter(|row| row.bar.as_ref().is_some_and(|(_bar, is_met)| !is_met));
        missed.map(|row| row.name.as_str()).collect()
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| | measured | bar | met |\n|---|---|---|---|")?;
        for Row { name, figure, bar } in &self.0 {
            let (bar, met) = match bar {
                Some((bar, true)) => (bar.as_str(), "yes"),
                Some((bar, false)) => (bar.as_str(), "**no**"),
                None => ("", ""),
            };
            writeln!(f, "| {name} | {figure} | {bar} | {met} |")?;
        }
        Ok(())
    }
}
