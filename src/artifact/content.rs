//! Whether bytes are a WebAssembly component, by their outermost form; pure.

/// Why bytes are not a component: what they are instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("it is empty")]
    Empty,
    #[error(
        "it is a core module, not a component: make a component of it, for example with `wasm-tools component new`"
    )]
    CoreModule,
    #[error("it is precompiled native code, which is never accepted")]
    Precompiled,
    #[error("it is a WebAssembly file of the unknown version {0:#010x}")]
    UnknownVersion(u32),
    #[error("it is text, not a component in binary form")]
    Text,
    #[error("it is not WebAssembly: it begins with the bytes {0}")]
    Unknown(String),
    #[error("it is a truncated component: section {section} ends beyond the end of the file")]
    Truncated { section: usize },
}

const WASM: &[u8] = b"\0asm";
const ELF: &[u8] = b"\x7fELF";
/// Version 1, layer 0.
const MODULE_VERSION: u32 = 1;
/// Version 13, layer 1: what components have carried since the component model's first release.
const COMPONENT_VERSION: u32 = 0x0001_000d;

/// Checks the preamble, and that the sections end where the bytes end. What is inside them is for the engine to judge.
pub(super) fn check_component(bytes: &[u8]) -> Result<(), ContentError> {
    if bytes.is_empty() {
        return Err(ContentError::Empty);
    }
    if bytes.starts_with(ELF) {
        return Err(ContentError::Precompiled);
    }
    let Some(rest) = bytes.strip_prefix(WASM) else {
        return Err(foreign(bytes));
    };
    let Some((version, sections)) = rest.split_first_chunk::<4>() else {
        return Err(ContentError::Truncated { section: 0 });
    };
    match u32::from_le_bytes(*version) {
        COMPONENT_VERSION => check_sections(sections),
        MODULE_VERSION => Err(ContentError::CoreModule),
        other => Err(ContentError::UnknownVersion(other)),
    }
}

/// Each section is an id byte, a LEB128 length, and so many bytes.
fn check_sections(mut rest: &[u8]) -> Result<(), ContentError> {
    let mut section = 0;
    while !rest.is_empty() {
        section += 1;
        rest = after_section(rest).ok_or(ContentError::Truncated { section })?;
    }
    Ok(())
}

fn after_section(bytes: &[u8]) -> Option<&[u8]> {
    let (_id, mut rest) = bytes.split_first()?;
    let mut length: u64 = 0;
    for shift in (0..35).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        rest = after;
        length |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return rest.get(usize::try_from(length).ok()?..);
        }
    }
    None
}

fn foreign(bytes: &[u8]) -> ContentError {
    let start = bytes.get(..bytes.len().min(64)).unwrap_or(bytes);
    let is_text = |b: &u8| b.is_ascii_graphic() || b.is_ascii_whitespace();
    if start.iter().all(is_text) {
        return ContentError::Text;
    }
    ContentError::Unknown(crate::types::digest::hex(bytes.get(..bytes.len().min(8)).unwrap_or(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_passes_and_each_cut_of_it_does_not() {
        let component = wat::parse_str("(component (core module (func (export \"f\"))))").unwrap();
        assert_eq!(check_component(&component), Ok(()));
        let header = 8;
        for end in (0..component.len()).filter(|&end| end != header) {
            // A cut exactly between two sections leaves a smaller, well-formed component.
            if check_component(&component[..end]).is_ok() {
                assert!(component[end] <= 12, "a section begins at {end}");
            }
        }
        let without_last_byte = check_component(&component[..component.len() - 1]);
        assert!(matches!(without_last_byte, Err(ContentError::Truncated { .. })), "{without_last_byte:?}");
    }

    #[test]
    fn what_is_not_a_component_is_named() {
        assert_eq!(check_component(b""), Err(ContentError::Empty));
        assert_eq!(check_component(&wat::parse_str("(module)").unwrap()), Err(ContentError::CoreModule));
        assert_eq!(check_component(b"\x7fELF\x02\x01\x01"), Err(ContentError::Precompiled));
        assert_eq!(check_component(b"(component)\n"), Err(ContentError::Text));
        assert_eq!(check_component(b"\0asm\x0c\0\x01\0"), Err(ContentError::UnknownVersion(0x0001_000c)));
        assert_eq!(check_component(b"\0as"), Err(ContentError::Unknown("006173".to_owned())));
        assert_eq!(check_component(b"\0asm"), Err(ContentError::Truncated { section: 0 }));
        let endless = b"\0asm\x0d\0\x01\0\x01\xff\xff\xff\xff\xff\xff";
        assert_eq!(check_component(endless), Err(ContentError::Truncated { section: 1 }));
    }
}
