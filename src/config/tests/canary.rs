//! A canary in every secret key, from every layer, beside every kind of mistake: no output holds it.

use super::typos::{Place, places};
use super::*;
use crate::config::table::{Kind, Secrecy, Shape};

/// Nothing else that is printed holds this.
const BIRD: &str = "c4n4ry";

fn secrets() -> Vec<Place> {
    let mut secrets = places();
    secrets.retain(|place| place.node.secrecy != Secrecy::Open);
    secrets
}

/// The key's value with the canary in it.
fn value(place: &Place) -> String {
    match &place.node.shape {
        Shape::Leaf(Kind::Map) => format!("{{ a = \"{BIRD}\" }}"),
        Shape::Leaf(Kind::List(_)) => format!("[\"nats://user:{BIRD}@host\"]"),
        _ if place.node.secrecy == Secrecy::UserInfo => format!("\"http://user:{BIRD}@host\""),
        _ => format!("\"{BIRD}\""),
    }
}

/// Files with the secret in it, each with another mistake nearby; the first has none.
fn files(place: &Place) -> Vec<String> {
    let (header, key, value) = (&place.header, &place.key, value(place));
    let line = format!("{key} = {value}");
    let flat = header.lines().last().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let bird = match place.node.secrecy {
        // Of a URL only this part is a secret.
        Secrecy::UserInfo => format!("user:{BIRD}@host"),
        Secrecy::Open | Secrecy::Secret | Secrecy::ByName => BIRD.to_owned(),
    };
    let mut files = vec![format!("{header}{line}\n")];
    // Syntax.
    let open = line.trim_end_matches(['"', '}', ']', ' ']);
    for broken in [
        open.to_owned(),
        format!("{open}\nx = \"1\""),
        format!("{line} garbage"),
        format!("{line}\n{line}"),
        format!("{key} = \\{bird}"),
        format!("{key} = {bird}"),
        format!("{key} = \"{bird}\\q\""),
        format!("{key} = \"{bird}\u{7}\""),
        format!("{key} = '{bird}"),
        format!("{key} = \"\"\"\n{bird}\n"),
        format!("{key} = [\"{bird}\", \"{bird}"),
        format!("{key} = {{ a = \"{bird}\", b = "),
        format!("{key}: {bird}"),
        format!("{key} {bird} = 1"),
        format!("\"{key}\": \"{bird}\","),
        format!("{key} == \"{bird}\""),
        format!("= {bird}"),
        format!("x =\n{line}"),
        format!("{line}\n[host"),
    ] {
        files.push(format!("{header}{broken}\n"));
    }
    // Types, names and rules.
    for wrong in [
        format!("{key} = [\"{bird}\", 1]"),
        format!("{key} = [[\"{bird}\"]]"),
        format!("{key} = {{ a = 1, b = \"{bird}\" }}"),
        format!("{key} = {{ a = [\"{bird}\"] }}"),
        format!("{key} = \"\"\"\n{bird}\n{bird}\"\"\"\nwrong = 1"),
        format!("{key}x = {value}"),
        format!("{line}\n{key}_file = \"nowhere\""),
        format!("{line}\nwrong = 1\nuser = \"\"\ntoken = \"{bird}\"\ncreds_file = \"nowhere\""),
        format!("x{key} = {{ y = [{{ z = {value} }}] }}"),
    ] {
        files.push(format!("{header}{wrong}\n"));
    }
    files.push(format!("{}{line}\n", header.replace(']', "x]")));
    if !header.starts_with("[[") {
        files.push(format!("{flat} = {{ {line}, wrong = 1, listen = 2 }}\n"));
        files.push(format!("{flat} = {{ {line}, wrong = \n"));
        files.push(format!("{flat} = [{{ {line} }}]\n"));
        files.push(format!("{flat}.{line}\n{flat}.wrong = 1\n"));
    }
    files
}

fn assert_silent(what: &str, loaded: &Result<Loaded, Problems>) {
    let outputs = match loaded {
        Err(it) => {
            assert!(!it.0.is_empty(), "{what} is refused without a reason");
            vec![it.text(), it.to_string(), it.json().to_string(), format!("{it:?}")]
        }
        Ok(it) => {
            let lines: Vec<_> = it.values.iter().map(ShownValue::line).collect();
            let diff = ConfigDiff::between(&Config::default(), &it.config);
            let back = ConfigDiff::between(&it.config, &Config::default());
            vec![format!("{it:?}"), format!("{it:#?}"), lines.join("\n"), format!("{diff} {diff:?} {back} {back:?}")]
        }
    };
    for output in outputs {
        assert!(!output.contains(BIRD), "{what}\nis told as\n{output}");
    }
}

#[test]
fn no_secret_of_a_file_is_in_any_output() {
    let secrets = secrets();
    assert!(secrets.len() >= 15, "only {} secrets", secrets.len());
    let (mut taken, mut refused) = (0, 0);
    for place in &secrets {
        for text in files(place) {
            let loaded = load_text(&text);
            if loaded.is_ok() {
                taken += 1
            } else {
                refused += 1
            }
            assert_silent(&text, &loaded);
        }
    }
    assert!(taken > 0 && refused > 300, "{taken} taken, {refused} refused");
}

#[test]
fn no_secret_of_a_right_file_is_in_any_output() {
    let text = format!(
        r#"
        [nats.scheduler]
        urls = ["nats://user:{BIRD}@host", "user:{BIRD}@host:4222"]
        user = "u"
        password = "{BIRD}"
        [registry.hosts."localhost:5000"]
        user = "u"
        password = "{BIRD}"
        [[workloads]]
        name = "a"
        host_interfaces = [{{ interface = "wasi:config/store", config = {{ key = "{BIRD}" }} }}]
        [[workloads.components]]
        name = "c"
        image = "a/b:1"
        config = {{ key = "{BIRD}" }}
        environment = {{ KEY = "{BIRD}" }}
        "#
    );
    let loaded = load_text(&text);
    assert!(loaded.is_ok(), "{loaded:?}");
    assert_silent(&text, &loaded);
    for (right, wrong) in
        [("name = \"c\"", "name = 1"), ("user = \"u\"", ""), ("a/b:1", "./b"), ("image", "imgae"), ("]]", "]")]
    {
        let text = text.replace(right, wrong);
        let loaded = load_text(&text);
        assert!(loaded.is_err(), "{text}");
        assert_silent(&text, &loaded);
    }
}

#[test]
fn no_secret_of_a_variable_or_a_flag_is_in_any_output() {
    let mut told = 0;
    for place in
        secrets().into_iter().filter(|place| !place.path().contains(['[', '"']) && !place.path().contains(".x."))
    {
        let path = place.path();
        let name = format!("WASHLET_{}", path.replace('.', "__").replace('-', "_").to_uppercase());
        let mut values = vec![value(&place)];
        if place.node.secrecy == Secrecy::Secret {
            values.extend([
                BIRD.to_owned(),
                format!("[\"{BIRD}\", "),
                format!("a={BIRD},{BIRD}"),
                format!("{{ a = {BIRD}"),
            ]);
        }
        for value in values {
            let misspelt = format!("{name}X");
            for env in [vec![(name.as_str(), value.as_str())], vec![(misspelt.as_str(), value.as_str())]] {
                assert_silent(&format!("{env:?}"), &load_with("#", &env, &[]));
                assert_silent(&format!("{env:?}"), &load_with("host = 1\n[nats.scheduler]\nuser = ''\n", &env, &[]));
                told += 1;
            }
            assert_silent(
                &value,
                &load_with("#", &[], &[("--secret", &path, &value), ("--other", "http.listen", &value)]),
            );
        }
    }
    assert!(told >= 50, "only {told} variables");
}

#[test]
fn no_secret_of_a_file_that_is_named_is_in_any_output() {
    let mut told = 0;
    let contents = [
        format!("{BIRD}\n").into_bytes(),
        format!("{BIRD}\n").repeat(20_000).into_bytes(),
        [BIRD.as_bytes(), b"\xff"].concat(),
        format!("-----BEGIN CERTIFICATE-----\n{BIRD}\n-----END CERTIFICATE-----\n").into_bytes(),
        format!("-----BEGIN PRIVATE KEY-----\n{BIRD}\n").into_bytes(),
        format!("-----BEGIN NATS USER JWT-----\nSU{BIRD}").into_bytes(),
    ];
    let is_path = |place: &Place| {
        place.key.ends_with("_file") || ["ca", "cert", "key", "client_ca", "image"].contains(&place.key.as_str())
    };
    for place in places().into_iter().filter(is_path) {
        let name = if place.key == "image" { "file:secret" } else { "secret" };
        for content in &contents {
            for more in ["", "user = \"u\"\n", "wrong = 1\n", "token = \"t\"\n"] {
                let text = format!("{}{} = \"{name}\"\n{more}", place.header, place.key);
                let loaded = load(&sources(&text), &|_path| Ok(content.clone()));
                assert_silent(&text, &loaded);
                told += 1;
            }
        }
    }
    assert!(told >= 200, "only {told} files");
}
