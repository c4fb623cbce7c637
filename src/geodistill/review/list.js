'use strict';
// The list of all objects: only the rows that are in view exist, and they are asked for page by page.
const HEIGHT = 28, PAGE = 100, BEYOND = 8;

class ObjectList {
  constructor(frame, rows, ask, open) {
    Object.assign(this, { frame, rows, ask, open, total: 0, classes: [], pages: new Map(), shown: new Map(), current: -1 });
    frame.addEventListener('scroll', () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(frame);
  }

  resize(total, classes) {
    this.classes = classes;
    if (total !== this.total) {
      this.total = total;
      this.rows.style.height = `${total * HEIGHT}px`;
      this.forget();
    }
  }

  // Ask anew for what is in view: others may have decided meanwhile.
  async forget() {
    const kept = this.pages;
    this.pages = new Map();
    const first = Math.floor(this.frame.scrollTop / HEIGHT / PAGE);
    for (const page of [first, first + 1]) if (kept.has(page)) this.pages.set(page, kept.get(page));
    for (const page of this.pages.keys()) await this.fetchPage(page);
    this.draw();
  }

  async fetchPage(page) {
    try {
      this.pages.set(page, await this.ask('list', { first: page * PAGE, count: PAGE }));
    } catch (error) {
      this.pages.delete(page);
    }
  }

  update(place, verdict) {
    const row = (this.pages.get(Math.floor(place / PAGE)) || [])[place % PAGE];
    if (row) row[5] = verdict;
    this.draw();
  }

  mark(place) {
    this.current = place;
    const top = place * HEIGHT, { scrollTop, clientHeight } = this.frame;
    if (top < scrollTop || top + HEIGHT > scrollTop + clientHeight) this.frame.scrollTop = top - clientHeight / 3;
    this.draw();
  }

  draw() {
    const first = Math.max(Math.floor(this.frame.scrollTop / HEIGHT) - BEYOND, 0);
    const last = Math.min(Math.ceil((this.frame.scrollTop + this.frame.clientHeight) / HEIGHT) + BEYOND, this.total);
    for (const [place, row] of this.shown) {
      if (place < first || place >= last) {
        row.remove();
        this.shown.delete(place);
      }
    }
    for (let place = first; place < last; place += 1) this.drawRow(place);
  }

  drawRow(place) {
    const page = Math.floor(place / PAGE);
    if (!this.pages.has(page)) {
      this.pages.set(page, []);
      this.fetchPage(page).then(() => this.draw());
    }
    let row = this.shown.get(place);
    if (!row) {
      row = document.createElement('button');
      row.type = 'button';
      row.className = 'row';
      row.tabIndex = -1;
      row.style.top = `${place * HEIGHT}px`;
      row.append(...['n', 'c', 'v'].map((name) => Object.assign(document.createElement('span'), { className: name })));
      row.addEventListener('click', () => this.open(place));
      this.shown.set(place, row);
      this.rows.append(row);
    }
    const about = this.pages.get(page)[place % PAGE];
    row.setAttribute('aria-current', place === this.current);
    const [number, name, verdict] = row.children;
    number.textContent = (place + 1).toLocaleString('en');
    name.textContent = about ? this.classes[about[2]].name : '';
    verdict.textContent = about ? (about[5] === 'undecided' ? (about[4] ? 'sample' : about[3].toFixed(2)) : about[5]) : '';
  }
}
