-- The reference's tables (CloudKitty 25.0.0) on PostgreSQL, where its own
-- cloudkitty-dbsync fails: the columns that it makes on MariaDB, with the types
-- and names that its models have here.
DO $$ BEGIN CREATE TYPE enum_map_type AS ENUM ('flat', 'rate'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
DO $$ BEGIN CREATE TYPE enum_hashmap_type AS ENUM ('flat', 'rate'); EXCEPTION WHEN duplicate_object THEN NULL; END $$;
CREATE TABLE IF NOT EXISTS cloudkitty_storage_states (
  id SERIAL NOT NULL,
  identifier VARCHAR(256) NOT NULL,
  scope_key VARCHAR(40),
  fetcher VARCHAR(40),
  collector VARCHAR(40),
  last_processed_timestamp TIMESTAMP WITHOUT TIME ZONE NOT NULL,
  scope_activation_toggle_date TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT now(),
  active BOOLEAN NOT NULL,
  PRIMARY KEY (id),
  CONSTRAINT uq_cloudkitty_storage_states_identifier UNIQUE (identifier, scope_key, collector, fetcher)
);
CREATE TABLE IF NOT EXISTS storage_scope_reprocessing_schedule (
  id SERIAL NOT NULL,
  identifier VARCHAR(256) NOT NULL,
  start_reprocess_time TIMESTAMP WITHOUT TIME ZONE NOT NULL,
  end_reprocess_time TIMESTAMP WITHOUT TIME ZONE NOT NULL,
  current_reprocess_time TIMESTAMP WITHOUT TIME ZONE,
  reason TEXT NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE IF NOT EXISTS modules_state (
  name VARCHAR(255) NOT NULL,
  state BOOLEAN NOT NULL,
  priority INTEGER,
  PRIMARY KEY (name)
);
CREATE TABLE IF NOT EXISTS states (
  name VARCHAR(255) NOT NULL,
  state BIGINT NOT NULL,
  s_metadata TEXT,
  PRIMARY KEY (name)
);
CREATE TABLE IF NOT EXISTS service_to_collector_mappings (
  service VARCHAR(255) NOT NULL,
  collector VARCHAR(255) NOT NULL,
  PRIMARY KEY (service)
);
CREATE TABLE IF NOT EXISTS hashmap_services (
  id SERIAL NOT NULL,
  service_id VARCHAR(36) NOT NULL,
  name VARCHAR(255) NOT NULL,
  CONSTRAINT pk_hashmap_services PRIMARY KEY (id),
  CONSTRAINT uq_hashmap_services_name UNIQUE (name),
  CONSTRAINT uq_hashmap_services_service_id UNIQUE (service_id)
);
CREATE TABLE IF NOT EXISTS hashmap_fields (
  id SERIAL NOT NULL,
  field_id VARCHAR(36) NOT NULL,
  name VARCHAR(255) NOT NULL,
  service_id INTEGER NOT NULL,
  CONSTRAINT pk_hashmap_fields PRIMARY KEY (id),
  CONSTRAINT uq_hashmap_fields_field_id UNIQUE (field_id),
  CONSTRAINT uniq_field_per_service UNIQUE (service_id, name),
  CONSTRAINT fk_hashmap_fields_service_id_hashmap_services FOREIGN KEY (service_id) REFERENCES hashmap_services (id) ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS hashmap_groups (
  id SERIAL NOT NULL,
  group_id VARCHAR(36) NOT NULL,
  name VARCHAR(255) NOT NULL,
  CONSTRAINT pk_hashmap_groups PRIMARY KEY (id),
  CONSTRAINT uq_hashmap_groups_group_id UNIQUE (group_id),
  CONSTRAINT uq_hashmap_groups_name UNIQUE (name)
);
CREATE TABLE IF NOT EXISTS hashmap_mappings (
  id SERIAL NOT NULL,
  mapping_id VARCHAR(36) NOT NULL,
  value VARCHAR(255),
  cost NUMERIC(40, 28),
  map_type enum_map_type NOT NULL,
  service_id INTEGER,
  field_id INTEGER,
  group_id INTEGER,
  tenant_id VARCHAR(255),
  name VARCHAR(32) NOT NULL,
  created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT now(),
  start TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT now(),
  "end" TIMESTAMP WITHOUT TIME ZONE,
  description TEXT,
  deleted TIMESTAMP WITHOUT TIME ZONE,
  created_by VARCHAR(32) NOT NULL,
  updated_by VARCHAR(32),
  deleted_by VARCHAR(32),
  CONSTRAINT pk_hashmap_mappings PRIMARY KEY (id),
  CONSTRAINT uq_hashmap_mappings_mapping_id UNIQUE (mapping_id),
  CONSTRAINT fk_hashmap_mappings_field_id_hashmap_fields FOREIGN KEY (field_id) REFERENCES hashmap_fields (id) ON DELETE CASCADE,
  CONSTRAINT fk_hashmap_mappings_group_id_hashmap_groups FOREIGN KEY (group_id) REFERENCES hashmap_groups (id) ON DELETE SET NULL,
  CONSTRAINT fk_hashmap_mappings_service_id_hashmap_services FOREIGN KEY (service_id) REFERENCES hashmap_services (id) ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS hashmap_thresholds (
  id SERIAL NOT NULL,
  threshold_id VARCHAR(36) NOT NULL,
  level NUMERIC(20, 8),
  cost NUMERIC(40, 28),
  map_type enum_hashmap_type NOT NULL,
  service_id INTEGER,
  field_id INTEGER,
  group_id INTEGER,
  tenant_id VARCHAR(255),
  CONSTRAINT pk_hashmap_thresholds PRIMARY KEY (id),
  CONSTRAINT uq_hashmap_thresholds_threshold_id UNIQUE (threshold_id),
  CONSTRAINT uniq_field_threshold UNIQUE (level, field_id, tenant_id),
  CONSTRAINT uniq_service_threshold UNIQUE (level, service_id, tenant_id),
  CONSTRAINT fk_hashmap_thresholds_field_id_hashmap_fields FOREIGN KEY (field_id) REFERENCES hashmap_fields (id) ON DELETE CASCADE,
  CONSTRAINT fk_hashmap_thresholds_group_id_hashmap_groups FOREIGN KEY (group_id) REFERENCES hashmap_groups (id) ON DELETE SET NULL,
  CONSTRAINT fk_hashmap_thresholds_service_id_hashmap_services FOREIGN KEY (service_id) REFERENCES hashmap_services (id) ON DELETE CASCADE
);
CREATE TABLE IF NOT EXISTS pyscripts_scripts (
  id SERIAL NOT NULL,
  script_id VARCHAR(36) NOT NULL,
  name VARCHAR(255) NOT NULL,
  data BYTEA NOT NULL,
  checksum VARCHAR(128),
  created_at TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT now(),
  start TIMESTAMP WITHOUT TIME ZONE NOT NULL DEFAULT now(),
  "end" TIMESTAMP WITHOUT TIME ZONE,
  description TEXT,
  deleted TIMESTAMP WITHOUT TIME ZONE,
  created_by VARCHAR(32) NOT NULL,
  updated_by VARCHAR(32),
  deleted_by VARCHAR(32),
  PRIMARY KEY (id),
  CONSTRAINT script_id UNIQUE (script_id)
);
