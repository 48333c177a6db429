//! Whatever stands on disk is decoded without a panic, and what decodes encodes to the same again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use syncline::store::record;

fuzz_target!(|bytes: &[u8]| {
    let _ = record::unseal::<record::StoredNote>(bytes);
    let _ = record::unseal::<record::StoredPart<'_>>(bytes);
    let _ = record::unseal::<record::StoredTable>(bytes);
    let _ = record::unseal::<Vec<record::StoredStanding>>(bytes);
    if let Ok(records) = record::decode_records(&bytes.to_vec().into()) {
        let sealed = record::encode_records(&records).expect("what was decoded can be encoded");
        assert_eq!(record::decode_records(&sealed.into()), Ok(records));
    }
    // The checksum keeps a fuzzer out: let it at the payload as well.
    if let Some(sealed) = record::resealed(bytes) {
        let _ = record::unseal::<record::StoredNote>(&sealed);
        let _ = record::unseal::<record::StoredPart<'_>>(&sealed);
        let _ = record::unseal::<record::StoredTable>(&sealed);
        let _ = record::unseal::<Vec<record::StoredStanding>>(&sealed);
        let _ = record::decode_records(&sealed.into());
    }
});
