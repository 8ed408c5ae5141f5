//! `infera earnings`: points, and what the electricity for them cost.

use std::process::ExitCode;

use infera_node::books::{Consumption, Earnings, EarningsQuery, EnergySpan, Period, Unmeasured};

use super::Show;
use super::remote::{Control, output};
use super::terminal::{Fault, points, table};

pub(super) async fn earnings(show: &Show) -> Result<ExitCode, Fault> {
    let query = EarningsQuery {
        period: Period::Day,
        network: None,
    };
    let earnings: Earnings = Control::of(show)?.call("earnings", &query).await?;
    output(show, &earnings, describe)
}

fn describe(earnings: &Earnings) -> String {
    let total = earnings.total;
    let sums = format!(
        "{} points confirmed, {} pending, {} forfeited",
        points(total.confirmed),
        points(total.pending),
        points(total.forfeited)
    );
    format!("{sums}\n\n{}", consumption(&earnings.consumption))
}

fn consumption(consumption: &Consumption) -> String {
    let mut lines = Vec::new();
    let currency = consumption.tariff.currency.code();
    let price = consumption.tariff.price_per_kwh.clone().map(String::from);
    let spans = [
        ("Today", consumption.today),
        ("Last 7 days", consumption.week),
        ("Last 30 days", consumption.month),
    ];
    let measured: Vec<_> = spans
        .iter()
        .filter_map(|(name, span)| Some((*name, (*span)?)))
        .collect();
    if let Some((_, month)) = measured.last() {
        let mut rows = vec![vec!["For the work".to_owned(), "Energy".to_owned()]];
        if price.is_some() {
            let titles = ["Cost", "A day", "1,000 tokens", "100 points"];
            rows[0].extend(titles.map(str::to_owned));
        }
        rows.extend(
            measured
                .iter()
                .map(|(name, span)| row(name, span, currency)),
        );
        lines.push(table(&rows, &[1, 2, 3, 4, 5]));
        lines.push(String::new());
        lines.push(match month.rest_watts {
            Some(rest) => format!(
                "A GPU at work draws {:.0} W. The {rest:.0} W that it draws at rest do not count",
                month.working_watts
            ),
            None => format!(
                "A GPU at work draws {:.0} W. It was not seen at rest yet: all of it counts",
                month.working_watts
            ),
        });
        lines.push(match price {
            Some(price) => format!("A kilowatt-hour costs {price} {currency}"),
            None => "What a kilowatt-hour costs is not known: \
                     `infera config electricity.price_per_kwh 0.32`"
                .to_owned(),
        });
    }
    match &consumption.unmeasured {
        Some(Unmeasured::Processor) => lines.push(
            "What the work draws is not measured: the processor computes, and none reports its power"
                .to_owned(),
        ),
        Some(Unmeasured::Driver { adapters }) => lines.push(format!(
            "What the work draws is not reported by the driver of {}",
            adapters.join(", ")
        )),
        None if measured.is_empty() => lines.push(
            "No work was measured yet: what it draws and costs will stand here".to_owned(),
        ),
        None => {}
    }
    lines.join("\n")
}

fn row(name: &str, span: &EnergySpan, currency: &str) -> Vec<String> {
    let mut row = vec![name.to_owned(), energy(span.kilowatt_hours)];
    if span.cost_nano.is_some() {
        row.extend(
            [
                span.cost_nano,
                span.cost_nano_per_day,
                span.cost_nano_per_1000_tokens,
                span.cost_nano_per_100_points,
            ]
            .map(|nano| match nano {
                Some(nano) => format!("{} {currency}", money(nano)),
                None => "-".to_owned(),
            }),
        );
    }
    row
}

fn energy(kilowatt_hours: f64) -> String {
    if kilowatt_hours < 0.1 {
        format!("{:.1} Wh", kilowatt_hours * 1000.0)
    } else {
        format!("{kilowatt_hours:.2} kWh")
    }
}

/// Billionths as an amount: two decimals, or as many as two digits need that say something.
fn money(nano: i64) -> String {
    const PARTS: i128 = 1_000_000_000;
    let nano = i128::from(nano);
    let unit = |decimals: u32| 10i128.pow(9 - decimals);
    let decimals = (2..9)
        .find(|decimals| nano == 0 || nano >= unit(*decimals) * 10)
        .unwrap_or(9);
    let rounded = (nano + unit(decimals) / 2) / unit(decimals) * unit(decimals);
    let rest = format!("{:09}", rounded % PARTS);
    let needed = rest[2..].trim_end_matches('0').len();
    format!("{}.{}", rounded / PARTS, &rest[..2 + needed])
}

#[cfg(test)]
mod tests {
    use infera_node::tariff::{Electricity, Price};

    use super::*;

    #[test]
    fn amounts_have_digits_that_say_something() {
        let cases = [
            (0, "0.00"),
            (1, "0.000000001"),
            (426_667, "0.00043"),
            (64_000_000, "0.064"),
            (80_000_000, "0.08"),
            (100_000_000, "0.10"),
            (995_000_000, "1.00"),
            (1_284_500_000_000, "1284.50"),
            (i64::MAX, "9223372036.85"),
        ];
        for (nano, text) in cases {
            assert_eq!(money(nano), text);
        }
    }

    fn month() -> EnergySpan {
        EnergySpan {
            days: 30,
            working_seconds: 3600,
            working_watts: 218.0,
            rest_watts: Some(18.0),
            kilowatt_hours: 0.2,
            cost_nano: Some(64_000_000),
            cost_nano_per_day: Some(2_133_333),
            cost_nano_per_1000_tokens: Some(426_667),
            cost_nano_per_100_points: None,
        }
    }

    #[test]
    fn costs_are_told_as_far_as_they_are_known() {
        let priced = Consumption {
            month: Some(month()),
            tariff: Electricity {
                price_per_kwh: Some(Price::parse("0.32").unwrap()),
                ..Electricity::default()
            },
            ..Consumption::default()
        };
        assert_eq!(
            consumption(&priced),
            "\
For the work    Energy       Cost       A day  1,000 tokens  100 points
Last 30 days  0.20 kWh  0.064 EUR  0.0021 EUR   0.00043 EUR           -

A GPU at work draws 218 W. The 18 W that it draws at rest do not count
A kilowatt-hour costs 0.32 EUR"
        );
        let untold = Consumption {
            month: Some(EnergySpan {
                rest_watts: None,
                kilowatt_hours: 0.01234,
                cost_nano: None,
                ..month()
            }),
            ..Consumption::default()
        };
        assert_eq!(
            consumption(&untold),
            "\
For the work   Energy
Last 30 days  12.3 Wh

A GPU at work draws 218 W. It was not seen at rest yet: all of it counts
What a kilowatt-hour costs is not known: `infera config electricity.price_per_kwh 0.32`"
        );
        let silent = |unmeasured| {
            consumption(&Consumption {
                unmeasured,
                ..Consumption::default()
            })
        };
        let adapters = vec!["Radeon HD 7750".to_owned()];
        let driver = silent(Some(Unmeasured::Driver { adapters }));
        assert_eq!(
            driver,
            "What the work draws is not reported by the driver of Radeon HD 7750"
        );
        assert!(silent(Some(Unmeasured::Processor)).contains("the processor computes"));
        assert!(silent(None).starts_with("No work was measured yet"));
    }
}
