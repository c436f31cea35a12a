// The plane of the map: from latents to places in it, and back. Its numbers are in the bundle's map.json, which
// training/latent_map.py writes and service/contract.py describes.
import { bytesOf } from "./images.js";

/** @typedef {{x: number, y: number, label: number, z: number[]}} Point */

export class Plane {
  /**
   * @param {{mean: number[], project: number[][], lift: number[][], scale: number[], mu: string, labels: number[]}} map
   */
  constructor({ mean, project, lift, scale, mu, labels }) {
    this.mean = mean;
    this.project = project;
    this.lift = lift;
    const bytes = new Int8Array(bytesOf(mu).buffer);
    /** @type {Point[]} */
    this.points = labels.map((label, index) => {
      const z = scale.map((step, latent) => bytes[index * scale.length + latent] * step);
      const [x, y] = this.place(z);
      return { x, y, label, z };
    });
    const xs = this.points.map(({ x }) => x);
    const ys = this.points.map(({ y }) => y);
    this.bounds = { left: Math.min(...xs), right: Math.max(...xs), bottom: Math.min(...ys), top: Math.max(...ys) };
  }

  /** Where a latent is in the plane. @param {number[]} z */
  place(z) {
    return this.project.map((axis) =>
      axis.reduce((sum, weight, latent) => sum + weight * (z[latent] - this.mean[latent]), 0),
    );
  }

  /**
   * The latent of a place: the mean of all latents that are there, if these are normal.
   * @param {number} x @param {number} y
   */
  latent(x, y) {
    return this.mean.map((mean, latent) => mean + x * this.lift[0][latent] + y * this.lift[1][latent]);
  }

  /** The point nearest to a place, and how far away it is. @param {number} x @param {number} y */
  nearest(x, y) {
    let nearest = this.points[0];
    let least = Infinity;
    for (const point of this.points) {
      const distance = Math.hypot(point.x - x, point.y - y);
      if (distance < least) [nearest, least] = [point, distance];
    }
    return { point: nearest, distance: least };
  }

  /** The middle of each label's points. */
  middles() {
    /** @type {Map<number, Point[]>} */
    const groups = new Map();
    for (const point of this.points) groups.set(point.label, [...(groups.get(point.label) ?? []), point]);
    const mean = (/** @type {number[]} */ values) => values.reduce((sum, value) => sum + value, 0) / values.length;
    return [...groups]
      .sort(([a], [b]) => a - b)
      .map(([label, points]) => ({ label, x: mean(points.map(({ x }) => x)), y: mean(points.map(({ y }) => y)) }));
  }
}

/**
 * So many points at equal distances along a path.
 * @param {[number, number][]} path @param {number} count @returns {[number, number][]}
 */
export function evenly(path, count) {
  const lengths = [0];
  for (let index = 1; index < path.length; index += 1) {
    const [[fromX, fromY], [toX, toY]] = [path[index - 1], path[index]];
    lengths.push(lengths[index - 1] + Math.hypot(toX - fromX, toY - fromY));
  }
  const whole = lengths[lengths.length - 1];
  let leg = 1;
  return Array.from({ length: count }, (_, index) => {
    const wanted = (whole * index) / (count - 1);
    while (leg < path.length - 1 && lengths[leg] < wanted) leg += 1;
    const [[fromX, fromY], [toX, toY]] = [path[leg - 1], path[leg]];
    const share = (wanted - lengths[leg - 1]) / (lengths[leg] - lengths[leg - 1] || 1);
    return [fromX + share * (toX - fromX), fromY + share * (toY - fromY)];
  });
}
