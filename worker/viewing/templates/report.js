"use strict";
const box = document.getElementById("filter");
const rows = [...document.querySelectorAll("#latest tbody tr")];
const shown = document.getElementById("shown");
const nothing = document.getElementById("nothing");
const apply = () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  const count = rows.filter((row) => !row.hidden).length;
  shown.textContent = `${count} of ${rows.length}`;
  nothing.hidden = count > 0 || rows.length === 0;
};
box.addEventListener("input", apply);
apply();
