// A click on a heading sorts; rows without a number in that column go last.
document.querySelectorAll('th').forEach(function (heading) {
  heading.onclick = function () {
    var body = heading.closest('table').tBodies[0];
    var column = heading.cellIndex;
    var direction = heading.dataset.dir == '1' ? -1 : 1;
    heading.parentNode.querySelectorAll('th').forEach(function (other) { delete other.dataset.dir; });
    heading.dataset.dir = direction;
    var value = function (row) {
      var cell = row.cells[column];
      return cell ? cell.dataset.v || '' : '';
    };
    Array.from(body.rows).sort(function (a, b) {
      var x = value(a), y = value(b);
      if (x === '' || y === '') return (x === '') - (y === '');
      var difference = parseFloat(x) - parseFloat(y);
      return direction * (isNaN(difference) ? x.localeCompare(y) : difference);
    }).forEach(function (row) { body.append(row); });
  };
});
