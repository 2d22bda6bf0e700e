//! Tests of the cache on disk.

use super::*;
use crate::artifact::credentials::Login;

fn reference() -> ImageReference {
    ImageReference::parse("r.example/a/b:1").unwrap()
}

fn record() -> Record {
    Record {
        reference: reference().to_string(),
        manifest_digest: Digest::of(b"manifest").to_string(),
        layer_digest: Digest::of(b"layer").to_string(),
        size: 5,
        checked_at: 1,
        fingerprints: vec![],
    }
}

fn put(cache: &Cache, bytes: &[u8]) -> Digest {
    let mut file = cache.new_blob().unwrap();
    file.write_all(bytes).unwrap();
    let digest = Digest::of(bytes);
    cache.keep_blob(file, &digest);
    digest
}

#[test]
fn bytes_and_records_outlive_the_cache_in_private_files() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join("cache");
    let cache = Cache::open(Some(&directory)).unwrap();
    let digest = put(&cache, b"layer");
    cache.save_record(&record());
    let key = *cache.key();
    drop(cache);

    let cache = Cache::open(Some(&directory)).unwrap();
    assert_eq!(cache.read(&digest, 5), Lookup::Found(Bytes::from_static(b"layer")));
    assert_eq!(cache.record(&reference()), Some(record()));
    assert_eq!(*cache.key(), key);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&directory), 0o700);
    assert_eq!(mode(&blobs(&directory).join(digest.hex())), 0o600);
    assert_eq!(mode(&record_path(&directory, &record().reference)), 0o600);
    assert_eq!(mode(&directory.join("key")), 0o600);
}

#[test]
fn damaged_bytes_are_found_out_and_removed() {
    let home = tempfile::tempdir().unwrap();
    let cache = Cache::open(Some(home.path())).unwrap();
    let path = blobs(home.path()).join(Digest::of(b"layer").hex());
    for damaged in [&b"LAYER"[..], b"lay", b"layer and more", b""] {
        let digest = put(&cache, b"layer");
        fs::write(&path, damaged).unwrap();
        assert_eq!(cache.read(&digest, 5), Lookup::Damaged, "{damaged:?}");
        assert_eq!(cache.read(&digest, 5), Lookup::Missing);
    }
}

#[test]
fn leftovers_are_removed_but_not_what_another_process_is_writing() {
    let home = tempfile::tempdir().unwrap();
    let cache = Cache::open(Some(home.path())).unwrap();
    let digest = put(&cache, b"layer");
    let leftover = blobs(home.path()).join(format!("{UNFINISHED}abc"));
    fs::write(&leftover, b"half").unwrap();
    let foreign = home.path().join("manifest-of-another-host.json");
    fs::write(&foreign, b"{}").unwrap();
    let being_written = cache.new_blob().unwrap();

    let second = Cache::open(Some(home.path())).unwrap();
    assert!(!leftover.exists());
    assert!(being_written.path().exists());
    assert!(foreign.exists());
    assert!(matches!(second.read(&digest, 5), Lookup::Found(_)));
}

#[test]
fn a_private_directory_goes_with_its_cache() {
    let cache = Cache::open(None).unwrap();
    let directory = cache.directory.clone().unwrap();
    assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    put(&cache, b"layer");
    drop(cache);
    assert!(!directory.exists());
}

#[test]
fn a_path_that_is_a_file_is_an_error_and_one_that_cannot_be_made_is_not() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert_eq!(Cache::open(Some(file.path())).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    let below_a_file = file.path().join("cache");
    let cache = Cache::open(Some(&below_a_file)).unwrap();
    assert!(cache.new_blob().is_none());
    cache.save_record(&record());
    assert_eq!(cache.record(&reference()), None);
    assert_eq!(cache.read(&Digest::of(b"layer"), 5), Lookup::Missing);
}

#[test]
fn a_damaged_record_counts_as_none() {
    let home = tempfile::tempdir().unwrap();
    let cache = Cache::open(Some(home.path())).unwrap();
    let path = record_path(home.path(), &record().reference);
    for damaged in ["", "{", "{}"] {
        fs::write(&path, damaged).unwrap();
        assert_eq!(cache.record(&reference()), None);
    }
    let other = Record { reference: "r.example/other:1".to_owned(), ..record() };
    fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
    assert_eq!(cache.record(&reference()), None);
}

#[test]
fn a_record_grants_to_the_logins_that_fetched_it_and_after_anonymous_to_all() {
    let print = |n: usize| {
        let user = Some((n.to_string(), crate::config::Secret::new("pw")));
        Login { user, ..Login::anonymous() }.fingerprint("r.example", &[0; 32])
    };
    let mut record = record();
    assert!(!record.grants(&Fingerprint::anonymous()));
    for n in 0..=FINGERPRINTS_MAX {
        record.grant(&print(n));
        record.grant(&print(n));
    }
    assert_eq!(record.fingerprints.len(), FINGERPRINTS_MAX);
    assert!(record.grants(&print(1)) && record.grants(&print(FINGERPRINTS_MAX)));
    assert!(!record.grants(&print(0)) && !record.grants(&Fingerprint::anonymous()));
    record.grant(&Fingerprint::anonymous());
    assert!(record.grants(&print(0)));
}
