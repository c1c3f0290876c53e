"use strict";
const box = document.getElementById("filter");
const rows = [...document.querySelectorAll("#latest tbody tr")];
const shown = document.getElementById("shown");
const apply = () => {
  const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) {
    const text = row.textContent.toLowerCase();
    row.hidden = !words.every((word) => text.includes(word));
  }
  shown.textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length}`;
};
box.addEventListener("input", apply);
apply();
