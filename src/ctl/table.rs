//! Columns of text.

/// `rows` under `heads`, each column as wide as it has to be. A cell that is empty shows as `-`.
pub(crate) fn table<const N: usize>(heads: [&str; N], rows: &[[String; N]]) -> String {
    let shown = |cell: &str| -> String {
        let cell: String = cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        if cell.trim().is_empty() { "-".to_owned() } else { cell }
    };
    let rows =
        std::iter::once(heads.map(str::to_owned)).chain(rows.iter().map(|row| row.each_ref().map(|cell| shown(cell))));
    let rows: Vec<[String; N]> = rows.collect();
    let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (at, cell) in row.iter().enumerate() {
            let pad = width(at).unwrap_or_default().saturating_sub(cell.chars().count());
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', pad.saturating_add(2)));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::table;

    #[test]
    fn columns_stand_below_each_other_and_no_cell_breaks_a_line() {
        let rows = [
            ["a".to_owned(), "ümlaut".to_owned(), String::new()],
            ["long one".to_owned(), "b\nc".to_owned(), "d".to_owned()],
        ];
        assert_eq!(
            table(["ID", "NAME", "X"], &rows),
            "ID        NAME    X\na         ümlaut  -\nlong one  b c     d\n"
        );
    }
}
