//! Properties of all strategies.

use proptest::prelude::*;

use super::{Error, Packing, Segment, Strategy, WINDOW_UNITS};

/// Best fit, as most tests want it.
fn best_fit(lengths: &[u32], per_unit: usize, seq_len: usize, window: usize) -> Packing {
    Packing::new(lengths, per_unit, seq_len, Strategy::BestFit, window).unwrap()
}

/// Every (document, token) of all rows, sorted.
fn tokens_of(packing: &Packing) -> Vec<(u32, u32)> {
    let rows = (0..packing.num_rows()).flat_map(|row| packing.row(row));
    let mut tokens: Vec<(u32, u32)> =
        rows.flat_map(|s| (s.start..s.start + s.length).map(|token| (s.document, token))).collect();
    tokens.sort_unstable();
    tokens
}

proptest! {
    #[test]
    fn no_token_is_lost_or_doubled_and_no_row_is_over_full(
        lengths in proptest::collection::vec(1u32..300, 0..200), seq_len in 1usize..120, window in 1usize..50,
    ) {
        let packing = best_fit(&lengths, 1, seq_len, window);
        let expected: Vec<(u32, u32)> =
            lengths.iter().zip(0..).flat_map(|(length, d)| (0..*length).map(move |t| (d, t))).collect();
        prop_assert_eq!(tokens_of(&packing), expected);
        for row in 0..packing.num_rows() {
            prop_assert!((1..=seq_len as u64).contains(&packing.row_tokens(row)));
        }
    }

    #[test]
    fn a_document_that_fits_a_row_is_never_cut(
        lengths in proptest::collection::vec(1u32..100, 1..100), seq_len in 1usize..120,
    ) {
        let packing = best_fit(&lengths, 1, seq_len, 16);
        let fewest: u64 = lengths.iter().map(|length| u64::from((length - 1) / seq_len as u32)).sum();
        let report = packing.report();
        prop_assert!(report.cuts >= fewest && report.short_cuts == 0);
        prop_assert_eq!(report.segments, lengths.len() as u64 + report.cuts);
        for segment in (0..packing.num_rows()).flat_map(|row| packing.row(row)) {
            let length = lengths[segment.document as usize];
            prop_assert!(length > seq_len as u32 || segment.length == length);
        }
        // Cuts that need not be are made only to fill what cannot be filled without them.
        let slots = (lengths.iter().sum::<u32>() as usize).div_ceil(seq_len) * seq_len;
        prop_assert!(report.cuts == fewest || report.tokens as f64 >= 0.995 * slots as f64);
    }

    #[test]
    fn pairs_stay_adjacent_in_one_row_and_oversize_pairs_are_counted(
        pairs in proptest::collection::vec((1u32..80, 1u32..80), 1..80), seq_len in 1usize..120,
    ) {
        let lengths: Vec<u32> = pairs.iter().flat_map(|(a, b)| [*a, *b]).collect();
        let packing = best_fit(&lengths, 2, seq_len, 16);
        for row in 0..packing.num_rows() {
            for pair in packing.row(row).chunks(2) {
                prop_assert_eq!((pair[0].document % 2, pair[0].document + 1), (0, pair[1].document));
            }
        }
        let report = packing.report();
        prop_assert_eq!(report.tokens + report.dropped_tokens, u64::from(lengths.iter().sum::<u32>()));
        prop_assert_eq!(report.segments / 2 + report.dropped_units, pairs.len() as u64);
    }
}

#[test]
fn a_setting_of_zero_is_an_error() {
    assert!(matches!(Packing::new(&[1], 1, 0, Strategy::BestFit, 1), Err(Error::InvalidValue { .. })));
    assert!(matches!(Packing::new(&[1], 1, 1, Strategy::BestFit, 0), Err(Error::InvalidValue { .. })));
}

#[test]
fn short_documents_fill_2048_slots_to_99_5_percent() {
    let lengths: Vec<u32> = (0..40_000u32).map(|i| 20 + i.wrapping_mul(2_654_435_761) % 1500).collect();
    let report = best_fit(&lengths, 1, 2048, WINDOW_UNITS).report().clone();
    assert!(report.fill_fraction >= 0.995, "{report:?}");
    assert_eq!(report.cuts, 0);
}

#[test]
fn few_long_documents_fill_2048_slots_to_99_5_percent_too() {
    for (count, longest) in [(180u32, 10_000), (150, 5_000), (60, 30_000), (900, 3_000)] {
        let lengths: Vec<u32> = (0..count).map(|i| 900 + i.wrapping_mul(2_654_435_761) % longest).collect();
        let report = best_fit(&lengths, 1, 2048, WINDOW_UNITS).report().clone();
        let rows = report.tokens.div_ceil(2048);
        let best = report.tokens as f64 / (rows * 2048) as f64;
        assert!(report.fill_fraction >= best.min(0.995), "{best} {report:?}");
    }
}

proptest! {
    #[test]
    fn of_a_document_only_its_rest_is_shorter_than_a_32nd_of_a_row(
        lengths in proptest::collection::vec(1u32..4000, 1..60), seq_len in 64usize..640,
    ) {
        let packing = best_fit(&lengths, 1, seq_len, 16);
        let least = seq_len as u32 / 32;
        let short = |segment: &&Segment| segment.length < least;
        let mut crumbs = vec![0; lengths.len()];
        for segment in (0..packing.num_rows()).flat_map(|row| packing.row(row)).filter(short) {
            crumbs[segment.document as usize] += 1;
        }
        for (length, crumbs) in lengths.iter().zip(crumbs) {
            let rest = length % seq_len as u32;
            prop_assert!(crumbs <= u32::from((1..least).contains(&rest)), "{crumbs} of {length}");
        }
    }

    #[test]
    fn concatenated_rows_are_full_but_the_last_and_lose_nothing(
        lengths in proptest::collection::vec(1u32..300, 1..200), seq_len in 1usize..120,
    ) {
        let packing = Packing::new(&lengths, 1, seq_len, Strategy::Concat, 1).unwrap();
        let in_order: Vec<Segment> = (0..packing.num_rows()).flat_map(|row| packing.row(row)).copied().collect();
        let mut at = (0, 0);
        for segment in in_order {
            at = if segment.document == at.0 { at } else { (segment.document, 0) };
            prop_assert_eq!((segment.document, segment.start), at);
            at.1 += segment.length;
        }
        let report = packing.report();
        prop_assert_eq!(report.tokens, u64::from(lengths.iter().sum::<u32>()));
        prop_assert_eq!(report.cuts + lengths.len() as u64, report.segments);
        for row in 0..packing.num_rows() - 1 {
            prop_assert_eq!(packing.row_tokens(row), seq_len as u64);
        }
    }

    #[test]
    fn aligned_rows_begin_with_a_beginning_are_full_and_account_for_every_token(
        lengths in proptest::collection::vec(1u32..300, 1..200), seq_len in 1usize..120, window in 1usize..50,
    ) {
        let packing = Packing::new(&lengths, 1, seq_len, Strategy::BosAligned, window).unwrap();
        for row in 0..packing.num_rows() {
            prop_assert_eq!(packing.row(row)[0].start, 0);
        }
        let full = (0..packing.num_rows()).filter(|row| packing.row_tokens(*row) == seq_len as u64).count() as u64;
        prop_assert!(full + 1 >= packing.num_rows());
        let tokens = tokens_of(&packing);
        prop_assert!(tokens.windows(2).all(|two| two[0] < two[1]), "a token comes twice");
        let report = packing.report();
        prop_assert_eq!(report.tokens + report.dropped_tokens, u64::from(lengths.iter().sum::<u32>()));
        prop_assert_eq!(report.segments + report.dropped_units, lengths.len() as u64 + report.cuts);
    }
}

#[test]
fn aligned_rows_lose_nothing_where_documents_are_shorter_than_rows() {
    let lengths: Vec<u32> = (0..40_000u32).map(|i| 20 + i.wrapping_mul(2_654_435_761) % 1500).collect();
    let report =
        Packing::new(&lengths, 1, 2048, Strategy::BosAligned, WINDOW_UNITS).unwrap().report().clone();
    assert!(report.fill_fraction > 0.999_9, "{report:?}");
    assert!((report.dropped_tokens as f64) < 1e-4 * report.tokens as f64, "{report:?}");
}

#[test]
fn a_document_that_fits_and_is_cut_is_counted_as_such() {
    let cuts = |strategy| {
        let report = Packing::new(&[5, 6, 20], 1, 8, strategy, 16).unwrap().report().clone();
        (report.cuts, report.short_cuts)
    };
    assert_eq!(cuts(Strategy::BestFit), (2, 0));
    assert_eq!(cuts(Strategy::Concat), (3, 1));
}

#[test]
fn pairs_are_only_packed_by_the_strategy_that_keeps_them_together() {
    for strategy in [Strategy::Concat, Strategy::BosAligned] {
        assert!(matches!(Packing::new(&[1, 1], 2, 8, strategy, 1), Err(Error::InvalidValue { .. })));
    }
}
