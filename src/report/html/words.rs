//! Thousands of sentences that differ only in their numbers, in compact form: each sentence form once, and its numbers
//! in columns.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::report::html::series::{Deltas, Runs};

/// Sentences in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Sentences {
    forms: BTreeMap<Form, usize>,
    columns: Vec<Vec<Vec<u64>>>,
    /// The form of each sentence.
    order: Vec<Option<usize>>,
}

/// A sentence without its numbers: the text before, between and after them, and how many decimals each has.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Form {
    texts: Vec<String>,
    decimals: Vec<u8>,
}

/// Sentences in a page.
#[derive(Debug, Serialize)]
pub(super) struct Packed {
    /// The form of each sentence; nothing if there is none.
    order: Runs<Option<usize>>,
    forms: Vec<FormWithNumbers>,
}

/// A form with the numbers of all its sentences.
#[derive(Debug, Serialize)]
struct FormWithNumbers {
    #[serde(flatten)]
    form: Form,
    /// A column for each number of the form.
    numbers: Vec<Deltas>,
}

impl Sentences {
    pub(super) fn add(&mut self, sentence: Option<&str>) {
        let place = sentence.map(|sentence| {
            let (form, numbers) = taken_apart(sentence);
            let next = self.forms.len();
            let place = *self.forms.entry(form).or_insert(next);
            if place == next {
                self.columns.push(vec![Vec::new(); numbers.len()]);
            }
            for (column, number) in self.columns[place].iter_mut().zip(numbers) {
                column.push(number);
            }
            place
        });
        self.order.push(place);
    }

    pub(super) fn packed(self) -> Packed {
        let mut forms: Vec<(Form, usize)> = self.forms.into_iter().collect();
        forms.sort_by_key(|&(_, place)| place);
        let forms = forms.into_iter().zip(self.columns).map(|((form, _), columns)| {
            let column = |column: Vec<u64>| Deltas::of(column.into_iter().map(Some));
            FormWithNumbers { form, numbers: columns.into_iter().map(column).collect() }
        });
        Packed { forms: forms.collect(), order: Runs::of(self.order) }
    }
}

/// Takes the numbers out of a sentence. A number that would not be reproduced exactly, such as `007`, stays in the
/// text.
fn taken_apart(sentence: &str) -> (Form, Vec<u64>) {
    let mut form = Form { texts: vec![String::new()], decimals: Vec::new() };
    let mut numbers = Vec::new();
    let mut rest = sentence;
    while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
        let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
        let whole = digits(&rest[start..]);
        let after = &rest[start + whole..];
        let decimals = after.strip_prefix('.').map_or(0, digits);
        let end = start + whole + if decimals > 0 { 1 + decimals } else { 0 };
        let number = &rest[start..end];
        let is_number = whole + decimals <= MOST_DIGITS && (whole == 1 || !number.starts_with('0'));
        let text = form.texts.last_mut().expect("it begins with one");
        match number.replace('.', "").parse() {
            Ok(value) if is_number => {
                text.push_str(&rest[..start]);
                form.texts.push(String::new());
                form.decimals.push(decimals as u8);
                numbers.push(value);
            }
            Ok(_) | Err(_) => text.push_str(&rest[..end]),
        }
        rest = &rest[end..];
    }
    form.texts.last_mut().expect("it begins with one").push_str(rest);
    (form, numbers)
}

/// A script's numbers are exact to 15 digits.
const MOST_DIGITS: usize = 15;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reassembles a sentence as the page's script does.
    fn put_together(form: &Form, numbers: &[u64]) -> String {
        let mut text = form.texts[0].clone();
        for ((number, &decimals), after) in numbers.iter().zip(&form.decimals).zip(&form.texts[1..])
        {
            let decimals = usize::from(decimals);
            let digits = format!("{number:0>width$}", width = decimals + 1);
            let (whole, part) = digits.split_at(digits.len() - decimals);
            text += whole;
            if decimals > 0 {
                text += &format!(".{part}");
            }
            text += after;
        }
        text
    }

    #[test]
    fn sentences_come_back_to_the_letter() {
        for sentence in [
            "hold on small: medium fits; it must fit for another 4m 58s",
            "memory 14.9 GiB is above 14.40 GiB",
            "0.05 and 0 and 00 and 007 and 10.",
            "model-7b.q4 at 1.2.3, 12345678901234567890 and 99",
            "9",
            "größer 3½",
            "",
        ] {
            let (form, numbers) = taken_apart(sentence);
            assert_eq!(put_together(&form, &numbers), sentence, "{form:?}");
        }
    }

    #[test]
    fn sentences_that_differ_in_numbers_share_a_form() {
        let mut sentences = Sentences::default();
        for second in 0..100 {
            sentences.add(Some(&format!("wait {second}s of 100s")));
            sentences.add(None);
        }
        sentences.add(Some("the highest tier serves"));
        let json = serde_json::to_value(sentences.packed()).unwrap();
        let forms = &json["forms"];
        assert_eq!(forms.as_array().unwrap().len(), 2);
        assert_eq!(forms[0]["texts"], serde_json::json!(["wait ", "s of ", "s"]));
        assert_eq!(forms[0]["numbers"][0].as_array().unwrap().len(), 100);
        assert_eq!(forms[0]["numbers"][0][99], 1);
        let order = json["order"].as_array().unwrap();
        assert_eq!((order.len(), &order[200]), (201, &serde_json::json!([1, 1])));
    }
}
