//! Tables: aligned columns, cells that wrap, a header that comes again on every page.

use super::paper::{Align, HAIR, Paper, Type};

/// Space between a border and its text.
const PAD: f32 = 3.0;

/// A column: its part of the width, and where its cells stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    pub(super) width: f32,
    pub(super) align: Align,
}

/// A cell of the header, over columns and rows of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Title<'a> {
    pub(super) text: &'a str,
    /// The first column and the one behind the last.
    pub(super) columns: (usize, usize),
    /// The first row of the header and the one behind the last.
    pub(super) rows: (usize, usize),
}

/// A table to be.
pub(super) struct Table<'a> {
    pub(super) columns: &'a [Column],
    /// The heights of the header's rows.
    pub(super) header: &'a [f32],
    pub(super) titles: &'a [Title<'a>],
    pub(super) title_face: Type,
    pub(super) face: Type,
    /// The rows that stand out.
    pub(super) bold: &'a [usize],
}

impl Table<'_> {
    /// Where columns begin, and where the last one ends; the widths are parts of the paper's.
    fn borders(&self, paper: &Paper) -> Vec<f32> {
        let sum: f32 = self.columns.iter().map(|column| column.width).sum();
        let mut at = paper.left;
        let mut borders = vec![at];
        for column in self.columns {
            at += column.width / sum * paper.width();
            borders.push(at);
        }
        borders
    }

    fn put_header(&self, paper: &mut Paper, borders: &[f32]) {
        let mut tops = vec![paper.y];
        for height in self.header {
            tops.push(tops.last().unwrap_or(&paper.y) + height);
        }
        let edge = |list: &[f32], at: usize| list.get(at).copied().unwrap_or_default();
        for title in self.titles {
            let (left, right) = (edge(borders, title.columns.0), edge(borders, title.columns.1));
            let (top, bottom) = (edge(&tops, title.rows.0), edge(&tops, title.rows.1));
            paper.frame((left, top), (right, bottom));
            let inner = (left + 1.0, right - 1.0);
            let lines = self.title_face.wrap(title.text, inner.1 - inner.0).len();
            let above = (bottom - top - self.title_face.height(lines)) / 2.0;
            paper.column(inner, top + above.max(0.0), self.title_face.center(), title.text);
        }
        paper.y = tops.last().copied().unwrap_or(paper.y);
    }

    /// Puts the header and the rows, over as many pages as they need; a row stays in one piece.
    pub(super) fn put(&self, paper: &mut Paper, rows: &[Vec<String>]) {
        let borders = self.borders(paper);
        let header: f32 = self.header.iter().sum();
        paper.keep(header + self.height(&borders, rows.first(), self.face));
        self.put_header(paper, &borders);
        for (at, row) in rows.iter().enumerate() {
            let face = if self.bold.contains(&at) { self.face.bold() } else { self.face };
            let height = self.height(&borders, Some(row), face);
            if paper.room() < height {
                paper.turn();
                self.put_header(paper, &borders);
            }
            for ((column, text), edges) in self.columns.iter().zip(row).zip(borders.windows(2)) {
                let [left, right] = edges else { continue };
                let face = Type { align: column.align, ..face };
                paper.column((left + PAD, right - PAD), paper.y + PAD - 1.0, face, text);
            }
            let bottom = paper.y + height;
            for border in &borders {
                paper.line((*border, paper.y), (*border, bottom), HAIR);
            }
            paper.y = bottom;
            paper.rule(HAIR);
        }
    }

    fn height(&self, borders: &[f32], row: Option<&Vec<String>>, face: Type) -> f32 {
        let cells = row.into_iter().flatten().zip(borders.windows(2));
        let lines = cells.map(|(text, edges)| match edges {
            [left, right] => face.wrap(text, right - left - 2.0 * PAD).len(),
            _ => 1,
        });
        face.height(lines.max().unwrap_or(1)) + 2.0 * PAD - 1.0
    }
}
