import type { HostFiles } from "./host-files.js";
import { distinct, property, segment, type Property } from "./property.js";

/**
 * Every thermal zone (`temperature/zone/TYPE`) and every hwmon input (`temperature/CHIP/LABEL`) in degrees Celsius, and
 * as `cpu/temperature` the one that belongs to the processor. A kernel may show one sensor in both ways.
 */
export async function readTemperatures(files: HostFiles): Promise<Property[]> {
  const sensors = (await Promise.all([readZones(files), readChips(files)])).flat();
  const names = distinct(sensors.map(({ name }) => name));
  const cpu = CPU_SENSORS.map((pattern) => sensors.find(({ name }) => pattern.test(name))).find(
    (sensor) => sensor !== undefined,
  );
  return [
    ...property("dynamic", "cpu/temperature", cpu?.celsius, "Cel"),
    ...sensors.flatMap(({ celsius }, index) => property("dynamic", names[index] ?? "", celsius, "Cel")),
  ];
}

interface Sensor {
  readonly name: string;
  readonly celsius: number;
}

async function readZones(files: HostFiles): Promise<Sensor[]> {
  const zones = (await files.list("sys/class/thermal")).filter((name) => /^thermal_zone\d+$/.test(name));
  const sensors = await Promise.all(
    zones.map(async (zone) => {
      const folder = `sys/class/thermal/${zone}`;
      const type = (await files.text(`${folder}/type`)) ?? zone;
      return sensor(`temperature/zone/${segment(type)}`, await files.number(`${folder}/temp`));
    }),
  );
  return sensors.flat();
}

async function readChips(files: HostFiles): Promise<Sensor[]> {
  const chips = (await files.list("sys/class/hwmon")).filter((name) => /^hwmon\d+$/.test(name));
  const sensors = await Promise.all(
    chips.map(async (chip) => {
      const folder = `sys/class/hwmon/${chip}`;
      const name = segment((await files.text(`${folder}/name`)) ?? chip);
      const inputs = (await files.list(folder)).flatMap((file) => /^(temp\d+)_input$/.exec(file)?.[1] ?? []);
      const readings = inputs.map(async (input) => {
        const label = (await files.text(`${folder}/${input}_label`)) ?? input;
        return sensor(`temperature/${name}/${segment(label)}`, await files.number(`${folder}/${input}_input`));
      });
      return (await Promise.all(readings)).flat();
    }),
  );
  return sensors.flat();
}

/** Both interfaces count thousandths of a degree. Values that no host survives are what broken sensors say. */
function sensor(name: string, thousandths: number | undefined): Sensor[] {
  if (thousandths === undefined || thousandths < LEAST || thousandths > MOST) return [];
  return [{ name, celsius: thousandths / 1000 }];
}

/** Sensors of the processor, the best first. */
const CPU_SENSORS: readonly RegExp[] = [
  /^temperature\/zone\/(x86_pkg_temp|cpu[-_]?thermal.*|soc[-_]?thermal|cpu\d*.*)$/i,
  /^temperature\/coretemp\/Package/,
  /^temperature\/k10temp\/T(die|ctl)$/,
  /^temperature\/(coretemp|k10temp|zenpower|cpu_thermal)\//,
];
const LEAST = -100_000;
const MOST = 250_000;
